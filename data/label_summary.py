"""Counts of objects by class and by box size."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import numpy as np

from utils.structures import ImageRecord, SizeArray

logger = logging.getLogger(__name__)
# In pixels of the network input: too small to learn, then small, medium and large.
SIZE_EDGES = {"below 3 px": 3, "3-8 px": 8, "8-32 px": 32, "32-96 px": 96, "above 96 px": np.inf}
MAX_CLASSES_LISTED = 12


def box_sizes(records: Sequence[ImageRecord], image_size: int) -> SizeArray:
    """(N, 2) width and height of all boxes, in pixels of images with that longer side."""
    found = [np.zeros((0, 2))]
    for record in records:
        boxes = record.targets.boxes.astype(np.float64)
        found.append((boxes[:, 2:] - boxes[:, :2]) * image_size / max(record.image_hw))
    return np.concatenate(found)


def objects_per_class(records: Iterable[ImageRecord], num_classes: int) -> list[int]:
    """The number of objects of each of C classes, crowd regions not counted."""
    ids = [record.targets.class_ids for record in records]
    together = np.concatenate([np.zeros(0, np.int64), *ids])
    return [int(count) for count in np.bincount(together, minlength=num_classes)]


def objects_per_size(sizes: SizeArray) -> dict[str, int]:
    """How many boxes have a longer side in each range of SIZE_EDGES.

    Args:
        sizes: (N, 2) width and height in pixels of the network input.
    """
    longest = sizes.max(1) if len(sizes) else np.zeros(0)
    lower = (0.0, *SIZE_EDGES.values())
    return {
        name: int(((longest >= low) & (longest < high)).sum())
        for low, (name, high) in zip(lower, SIZE_EDGES.items(), strict=False)
    }


def log_label_summary(
    records: Sequence[ImageRecord], sizes: SizeArray, class_names: Sequence[str], image_size: int
) -> None:
    """Classes and box sizes of the training images, a line each.

    Args:
        records: the images.
        sizes: of their boxes, as for `objects_per_size`.
        class_names: in class-id order.
        image_size: of the network input.
    """
    counts = objects_per_class(records, len(class_names))
    order = sorted(range(len(counts)), key=lambda number: -counts[number])
    shown = order
    if len(order) > MAX_CLASSES_LISTED:
        half = MAX_CLASSES_LISTED // 2
        shown = [*order[:half], *order[-half:]]
    entries = [f"{class_names[number]} {counts[number]}" for number in shown]
    if len(shown) < len(order):
        entries.insert(len(shown) // 2, "...")
    logger.info("objects to learn: %s", ", ".join(entries))
    if missing := [class_names[number] for number in order if counts[number] == 0]:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        logger.warning("  no object of %s%s", ", ".join(missing[:5]), more)
    log_sizes(sizes, image_size)


def log_sizes(sizes: SizeArray, image_size: int) -> dict[str, int]:
    """Log and return `objects_per_size`; `image_size` is named in the line."""
    counts = objects_per_size(sizes)
    logger.info("longer side of a box at %d px: %s", image_size,
                ", ".join(f"{name} {count}" for name, count in counts.items()))  # fmt: skip
    return counts
