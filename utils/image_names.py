"""What images are called in results: by their files, told apart where several have one name."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

from utils.output_files import short_stem
from utils.structures import ImageRecord


def image_stems(records: Iterable[ImageRecord]) -> dict[int, str]:
    """Image id -> its file's name without suffix; several of one name are `a`, `a_2`, `a_3`."""
    stems: dict[int, str] = {}
    taken: set[str] = set()  # in small letters: some file systems take both for the same
    for record in sorted(records, key=attrgetter("image_id")):
        short = stem = short_stem(record.path.stem)
        number = 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{short}_{number}"
        taken.add(stem.casefold())
        stems[record.image_id] = stem
    return stems


def names_in_results(records: Iterable[ImageRecord]) -> dict[int, int | str]:
    """Image id -> what YOLOv5 calls it in COCO results: its stem, one of digits as a number."""
    names: dict[int, int | str] = {}
    taken: set[int] = set()
    for image_id, stem in image_stems(records).items():
        number = int(stem) if stem.isascii() and stem.isdecimal() else None
        if number is None or number in taken:  # `7` after `007` stays text
            names[image_id] = stem
        else:
            names[image_id] = number
            taken.add(number)
    return names
