"""Image files of folders and of lists, hidden ones skipped."""

from __future__ import annotations

import codecs
import shutil
import sys
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

from data.file_states import Evidence, start_of_paths
from data.file_suffixes import LISTED_SUFFIXES
from utils.errors import DatasetError, hint_at
from utils.path_kind import path_kind


def list_images(source: Path, evidence: Evidence | None = None) -> list[str]:
    """Images of a folder and its subfolders, or of a .txt file that names one per line.

    Args:
        source: the folder or file.
        evidence: is told what was looked at.

    Raises:
        DatasetError: it is neither, is missing, or cannot be read.
    """
    evidence = evidence or Evidence()
    if path_kind(source) == "folder":
        return _search_folder(source, evidence)
    if source.suffix.lower() == ".txt" and path_kind(source) == "file":
        return _read_list(source, evidence)
    if path_kind(source):
        raise DatasetError(f"{source}: must be a folder of images or a .txt file that lists them")
    raise DatasetError(f"{source}: no such folder or file{hint_at(source)}")


def read_lines(file: Path) -> list[str]:
    """The lines of a list that are not empty, as file names: bytes that are no UTF-8 are kept.

    Raises:
        DatasetError: it cannot be read, or is no text.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"{file}: no such file{hint_at(file)}") from None
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read: {error.strerror or error}") from None
    # PowerShell's `dir > list.txt` writes UTF-16.
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding = "utf-16" if is_utf16 else "utf-8-sig"
    text = content.decode(encoding, "replace" if is_utf16 else "surrogateescape")
    if "\0" in text:
        raise DatasetError(f"{file}: cannot be read as text: it has null characters")
    return [line.strip() for line in text.splitlines() if line.strip()]


def with_slashes(
    lines: Sequence[str], folder: Path, evidence: Evidence | None = None
) -> Sequence[str]:
    """Backslashes, which Windows writes between folders, as slashes; unless files are called so.

    Args:
        lines: of a list; the first one with a backslash decides for all.
        folder: where relative ones start, besides the working directory.
        evidence: is told what was looked at.
    """
    first = next((line for line in lines if "\\" in line), None)
    if first is None:
        return lines
    candidates = (folder / first, Path(first))
    for path in candidates:
        (evidence or Evidence()).note(path)
    if any(map(path_kind, candidates)):
        return lines
    return [line.replace("\\", "/") for line in lines]


class TemporaryImage:
    """An image's content in a file, which is removed when nobody refers to this any more.

    Attributes:
        path: of the file.
    """

    def __init__(self, content: bytes) -> None:
        """Write it."""
        folder = tempfile.mkdtemp(prefix="stdin-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.path = Path(folder) / "stdin.jpg"
        self.path.write_bytes(content)


def read_standard_input() -> TemporaryImage | list[str]:
    """An image's content, or the lines of a list.

    Raises:
        DatasetError: standard input is closed.
    """
    if sys.stdin is None:
        raise DatasetError("--source -: standard input is closed")
    content = sys.stdin.buffer.read()
    with tempfile.NamedTemporaryFile(prefix="stdin-", suffix=".txt") as file:
        path = Path(file.name)
        path.write_bytes(content)
        try:
            lines = read_lines(path)
        except DatasetError:
            lines = []
    if content and not lines:
        return TemporaryImage(content)
    return lines


def _search_folder(folder: Path, evidence: Evidence) -> list[str]:
    """Each real folder once: a link may lead to a folder that is listed anyway, or above it."""
    found, visited, linked = [], set(), [str(folder)]
    while linked:  # links come after all that is reached without them
        waiting = [linked.pop(0)]
        while waiting:
            parent = waiting.pop()
            names, start = evidence.folder(parent), start_of_paths(parent)
            if names.identity is None or names.identity in visited:
                continue
            visited.add(names.identity)
            shown = sorted(each for each in names.folders if not each[0].startswith("."))
            linked += [start + name for name, is_link in shown if is_link]
            waiting += [start + name for name, is_link in reversed(shown) if not is_link]
            found += [start + name for name in names.files if _is_listed(name)]
    return found


def stem(name: str) -> str:
    """A file's name without its suffix, as in `Path`, which takes ten times as long."""
    dot = name.rfind(".")
    return name[:dot] if 0 < dot < len(name) - 1 else name


def _is_listed(name: str) -> bool:
    """Whether a file's name is that of an image, and not hidden."""
    return name[name.rfind(".") :].lower() in LISTED_SUFFIXES and not name.startswith(".")


def _read_list(file: Path, evidence: Evidence) -> list[str]:
    """Images named by a .txt file; `./` and relative paths start at the file's folder.

    Relative paths that do not exist there start at the working directory, as in YOLOv5.
    """
    evidence.note(file)
    lines = with_slashes(read_lines(file), file.parent, evidence)
    paths = [Path(line) for line in lines]
    relative = next((path for path in paths if not path.is_absolute()), None)
    # The first relative path decides for all: checking each of 100,000 entries would take long.
    base = file.parent
    if relative is not None:
        evidence.note(base / relative)
        evidence.note(relative)
        if not path_kind(base / relative) and path_kind(relative):
            base = Path()
    return [str(base / path) for path in paths]
