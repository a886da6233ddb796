"""How large the boxes of a data set are for the network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from utils.anchor_fit import BoxSizes
from utils.structures import ImageRecord


def box_sizes(records: Sequence[ImageRecord], image_size: int) -> BoxSizes:
    """(N, 2) width and height of all boxes, in pixels of images with that longer side."""
    found = [np.zeros((0, 2))]
    for record in records:
        boxes = record.targets.boxes.astype(np.float64)
        found.append((boxes[:, 2:] - boxes[:, :2]) * image_size / max(record.image_hw))
    return np.concatenate(found)
