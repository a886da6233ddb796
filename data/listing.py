"""Image files of folders and of lists, hidden ones skipped."""

from __future__ import annotations

import codecs
import os
import sys
import tempfile
from pathlib import Path

from data.file_suffixes import LISTED_SUFFIXES
from data.image_file import path_kind
from utils.errors import DatasetError


def list_images(source: Path) -> list[Path]:
    """Images of a folder and its subfolders, or of a .txt file that names one per line.

    Raises:
        DatasetError: it is neither, is missing, or cannot be read.
    """
    if path_kind(source) == "folder":
        return _search_folder(source)
    if source.suffix == ".txt" and path_kind(source) == "file":
        return _read_list(source)
    if path_kind(source):
        raise DatasetError(f"{source}: must be a folder of images or a .txt file that lists them")
    raise DatasetError(f"{source}: no such folder or file")


def read_lines(file: Path) -> list[str]:
    """The lines of a list that are not empty, as file names: bytes that are no UTF-8 are kept.

    Raises:
        DatasetError: it cannot be read, or is no text.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"{file}: no such file") from None
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read: {error.strerror or error}") from None
    # PowerShell's `dir > list.txt` writes UTF-16.
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding = "utf-16" if is_utf16 else "utf-8-sig"
    text = content.decode(encoding, "replace" if is_utf16 else "surrogateescape")
    if "\0" in text:
        raise DatasetError(f"{file}: cannot be read as text: it has null characters")
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_standard_input() -> Path | list[str]:
    """An image's content, kept in a temporary file, or the lines of a list."""
    content = sys.stdin.buffer.read()
    with tempfile.NamedTemporaryFile(prefix="stdin-", suffix=".txt") as file:
        path = Path(file.name)
        path.write_bytes(content)
        try:
            lines = read_lines(path)
        except DatasetError:
            lines = []
    if content and not lines:
        with tempfile.NamedTemporaryFile(prefix="stdin-", suffix=".jpg", delete=False) as kept:
            kept.write(content)
        return Path(kept.name)
    return lines


def _search_folder(folder: Path) -> list[Path]:
    """Each real folder once: a link may lead to a folder that is listed anyway, or above it."""
    found, visited, waiting = [], set(), [folder]
    while waiting:  # links come after all that is reached without them
        for parent, subfolders, names in os.walk(waiting.pop(0)):
            state = Path(parent).stat()
            identity = (state.st_dev, state.st_ino)
            if identity in visited:
                subfolders.clear()
                continue
            visited.add(identity)
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            paths = [Path(parent, name) for name in subfolders]
            waiting += [path for path in paths if path.is_symlink()]
            found += [
                Path(parent, name)
                for name in names
                if not name.startswith(".") and Path(name).suffix.lower() in LISTED_SUFFIXES
            ]
    return found


def _read_list(file: Path) -> list[Path]:
    """Images named by a .txt file; `./` and relative paths start at the file's folder.

    Relative paths that do not exist there start at the working directory, as in YOLOv5.
    """
    paths = [Path(line) for line in read_lines(file)]
    relative = next((path for path in paths if not path.is_absolute()), None)
    # The first relative path decides for all: checking each of 100,000 entries would take long.
    base = file.parent
    if relative is not None and not path_kind(base / relative) and path_kind(relative):
        base = Path()
    return [base / path for path in paths]
