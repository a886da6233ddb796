"""Which files of a folder are images and videos, and which ones are not read."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from data.file_suffixes import (
    COMPANION_SUFFIXES,
    HEIF_SUFFIXES,
    IMAGE_SUFFIXES,
    UNREADABLE_SUFFIXES,
    VIDEO_SUFFIXES,
)
from data.heif_file import START_BYTES, is_heif, missing_package
from data.image_file import JPEG_START
from utils.errors import DatasetError
from utils.logs import counted
from utils.path_kind import path_kind
from utils.structures import Skipped

logger = logging.getLogger(__name__)
MAX_KINDS_SAID = 8
# Images of these are read under any suffix: phones call JPEGs `.heic`.
_ORDINARY_STARTS = (JPEG_START, b"\x89PNG", b"BM", b"RIFF")


def folder_media(folder: Path, text: str, recursive: bool) -> list[Path | Skipped]:
    """As `find_media`, of what is not hidden in a folder, or in all folders below it, too."""
    found = (
        path
        for path in (folder.rglob("*") if recursive else folder.iterdir())
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    deeper = "" if recursive else "; --recursive looks into folders below"
    return find_media(found, text, f"no images or videos in this folder{deeper}")


def pattern_media(path: Path, text: str) -> list[Path | Skipped]:
    """As `find_media`, of a pattern like `a/*.jpg`; `*` matches no hidden file, as in a shell."""
    anchor = Path(path.anchor)
    pattern = str(path.relative_to(anchor)) if path.anchor else text
    found = anchor.glob(pattern)
    if not path.name.startswith("."):
        found = (each for each in found if not each.name.startswith("."))
    return find_media(found, text, "no image or video matches this pattern")


def find_media(found: Iterable[Path], text: str, none_found: str) -> list[Path | Skipped]:
    """The images and videos, sorted, and images that cannot be read.

    One log line counts what is not read, by suffix: images of kinds that cannot be, and files that
    are neither images nor videos. Hidden files and what lies beside images in most data sets
    (labels, tables, notes) are not counted.

    Args:
        found: paths of a folder or pattern.
        text: what `--source` says.
        none_found: why it is an error that there are none.

    Raises:
        DatasetError: there are no images and videos.
    """
    media, others = list[Path | Skipped](), Counter[str]()
    missing, images_unread = set[str](), 0
    for path in sorted(found):
        suffix = path.suffix.lower()
        is_known = suffix in IMAGE_SUFFIXES | UNREADABLE_SUFFIXES | VIDEO_SUFFIXES
        if is_known and path.is_symlink() and path_kind(path) is None:
            media.append(Skipped(path, "a link to no file"))
            continue
        if (not is_known and _is_companion(path)) or path_kind(path) != "file":
            continue
        if not path.is_file():  # reading a pipe would never end
            continue
        reason = _unread_image(path)
        if reason is not None:
            media.append(Skipped(path, reason, is_said=True))
            others[suffix] += 1
            images_unread += suffix in UNREADABLE_SUFFIXES
            missing |= {reason} if suffix in HEIF_SUFFIXES else set()
        elif is_known:
            media.append(path)
        else:
            others[suffix or "without a suffix"] += 1
    unread = _counted(others)
    if not media:
        raise DatasetError(
            f"--source {text}: {none_found}{f' (it has {unread})' if unread else ''}"
        )
    if others:
        hints = [*missing, *(["save images as JPEG or PNG"] if images_unread else [])]
        number = counted(others.total(), "file")
        logger.warning("%s: %s not read: %s", text, number, "; ".join([unread, *hints]))
    return media


def _is_companion(path: Path) -> bool:
    return path.suffix.lower() in COMPANION_SUFFIXES or path.name.startswith(".")


def _unread_image(path: Path) -> str | None:
    """Why an image of this suffix cannot be read; None of all other files."""
    suffix = path.suffix.lower()
    if suffix not in HEIF_SUFFIXES | UNREADABLE_SUFFIXES:
        return None
    try:
        with path.open("rb") as file:
            start = file.read(START_BYTES)
    except OSError:  # said when it is read
        return None
    if suffix in HEIF_SUFFIXES:
        return missing_package() if is_heif(start) else None
    if start.startswith(_ORDINARY_STARTS):
        return None
    return f"{suffix} files cannot be read; save it as JPEG or PNG"


def _counted(numbers: Counter[str]) -> str:
    """`2 .dng, 1 .psd`, the most frequent first."""
    some = sorted(numbers.items(), key=lambda each: (-each[1], each[0]))
    texts = [f"{number} {suffix}" for suffix, number in some[:MAX_KINDS_SAID]]
    rest = sum(number for _, number in some[MAX_KINDS_SAID:])
    return ", ".join([*texts, *([f"{rest} others"] if rest else [])])
