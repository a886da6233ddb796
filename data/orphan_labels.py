"""Label files that no image belongs to."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from data.label_rules import Problem

MIN_NUMBERS = 5  # of a row; other .txt files beside images hold class names or notes


def find_orphans(pairs: Iterable[tuple[Path, Path]]) -> list[Problem]:
    """One problem for each folder that has YOLO label files without an image.

    A label file whose image is in the folder but not in the list is none.

    Args:
        pairs: images and their label files.
    """
    image_folders: dict[Path, set[Path]] = {}
    expected: set[Path] = set()
    for image, label in pairs:
        image_folders.setdefault(label.parent, set()).add(image.parent)
        expected.add(label)
    problems = []
    for folder, sources in sorted(image_folders.items()):
        unclaimed = [name for name in _files(folder) if folder / name not in expected]
        unclaimed = [name for name in unclaimed if Path(name).suffix.lower() == ".txt"]
        if not unclaimed:
            continue
        claimed = {
            f"{Path(name).stem}.txt"
            for source in sources
            for name in _files(source)
            if Path(name).suffix.lower() != ".txt"
        }
        orphans = [name for name in unclaimed if name not in claimed and _has_row(folder / name)]
        problems += [orphan_problem(folder, orphans)] if orphans else []
    return problems


def orphan_problem(folder: Path, names: list[str]) -> Problem:
    """The problem of label files in a folder, at least one."""
    text = f"{folder}: {len(names)} label files have no image (the first: {names[0]})"
    return Problem("orphan", text, len(names))


def _files(folder: Path) -> list[str]:
    """Sorted names in a folder, hidden ones and folders skipped; none where it is missing."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_file()]
    except (OSError, ValueError):  # ValueError: a name with a NUL
        return []
    return sorted(name for name in names if not name.startswith("."))


def _has_row(path: Path) -> bool:
    """Whether the first line of a file is that of a label file."""
    try:
        with path.open("rb") as file:
            columns = file.readline(4096).split()
        return len([float(column) for column in columns]) >= MIN_NUMBERS
    except (OSError, ValueError):
        return False
