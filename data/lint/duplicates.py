"""Images that a data set holds twice, compared byte for byte."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from utils.logs import Progress, counted
from utils.structures import ImageRecord


def duplicate_images(splits: Mapping[str, Sequence[ImageRecord]]) -> list[str]:
    """Compare all images of all splits; returns one line for each copy of an earlier image.

    An image in both training and validation makes AP look better than it is. Splits that list the
    same file on purpose (as coco128 does) are reported once, with the number of shared files.
    """
    first: dict[str, tuple[str, Path]] = {}
    lines: list[str] = []
    shared: dict[tuple[str, str], int] = {}
    for name, records in splits.items():
        for record, digest in zip(records, _digests(records, name), strict=True):
            split, path = first.setdefault(digest, (name, record.path))
            if path == record.path and split == name:
                continue
            if path == record.path:
                shared[split, name] = shared.get((split, name), 0) + 1
            else:
                lines.append(f"{record.path} ({name}): the same image as {path} ({split})")
    together = [
        f"{counted(count, 'image')} listed by both {one} and {other}: AP on {other} says nothing "
        "about new images"
        for (one, other), count in shared.items()
    ]
    return together + lines


def _digests(records: Sequence[ImageRecord], split: str) -> Iterator[str]:
    def digest(record: ImageRecord) -> str:
        return hashlib.sha256(record.path.read_bytes()).hexdigest()

    with ThreadPoolExecutor() as pool:
        title = f"comparing images of {split}"
        yield from Progress(pool.map(digest, records), len(records), title, "image")
