"""Sources that name several things: folders, patterns, lists and standard input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from data.addresses import is_address
from data.file_suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from data.folder_media import folder_media, pattern_media
from data.listing import TemporaryImage, read_lines, read_standard_input, with_slashes
from utils.errors import DatasetError, hint_at
from utils.path_kind import path_kind
from utils.structures import Skipped

STREAMS = ".streams"
LIST_SUFFIXES = (".txt", STREAMS)
STANDARD_INPUT = "-"
# A file, an address, an image of a kind that is known to be unreadable, or standard input.
Item: TypeAlias = Path | str | Skipped | TemporaryImage


def source_items(text: str, *, recursive: bool) -> Sequence[Item]:
    """The files and addresses that a `--source` names, which is neither of them itself.

    Raises:
        DatasetError: there is no such thing, or no images and videos in it.
    """
    if text == STANDARD_INPUT:
        given = read_standard_input()
        if isinstance(given, TemporaryImage):
            return [given]
        return _some(_listed(given, Path()), "--source -: standard input is empty")
    if not text:
        raise DatasetError("--source: is empty; `.` is the folder that the command runs in")
    path = Path(text)
    kind = path_kind(path)
    if kind == "folder":
        return folder_media(path, text, recursive)
    if kind == "file" and path.suffix.lower() in LIST_SUFFIXES:
        lines = read_lines(path)
        if path.suffix.lower() == STREAMS:  # a file may be called #1.jpg
            lines = [line for line in lines if not line.startswith("#")]
        return _some(_listed(lines, path.parent), f"--source {text}: this list is empty")
    if kind == "file":
        raise DatasetError(
            f"--source {text}: the suffix {path.suffix!r} is neither an image's nor a video's "
            f"(known: {' '.join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))})"
        )
    if any(sign in text for sign in "*?["):
        return pattern_media(path, text)
    raise DatasetError(f"--source {text}: no such file or folder{hint_at(path)}")


def _some(items: Sequence[Item], message: str) -> Sequence[Item]:
    if not items:
        raise DatasetError(message)
    return items


def _listed(lines: Sequence[str], folder: Path) -> list[Item]:
    """Addresses, and paths: relative ones from the list's folder or the working directory."""
    items: list[Item] = []
    written = [line for line in lines if not is_address(line)]  # addresses keep backslashes
    paths = dict(zip(written, with_slashes(written, folder), strict=True))
    for line in lines:
        if is_address(line):
            items.append(line)
            continue
        beside = folder / paths[line]
        items.append(beside if path_kind(beside) else Path(paths[line]))
    return items
