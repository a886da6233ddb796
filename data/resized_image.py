"""The image of a record as a data set takes it: as it was when the labels were read, resized."""

from __future__ import annotations

import cv2
import numpy as np

from data.image_file import read_shrunk, shrink_factor
from utils.errors import DatasetError
from utils.letterbox import long_side_hw
from utils.structures import ImageArray, ImageRecord


def read_unchanged(record: ImageRecord, needed: int | None = None) -> ImageArray:
    """The image of a record.

    Where the longer side `needed` is at most half of its own, a JPEG comes smaller, as
    `read_shrunk` says.

    Raises:
        DatasetError: it cannot be read any more, or its size has changed.
    """
    height, width = record.image_hw
    factor = 1 if needed is None else shrink_factor(max(height, width), needed)
    image = read_shrunk(record.path, factor)
    if image.shape[:2] not in (record.image_hw, (-(-height // factor), -(-width // factor))):
        raise DatasetError(
            f"{record.path}: {image.shape[1]}x{image.shape[0]} pixels"
            f"{f' at 1/{factor} of its size' if factor > 1 else ''}, was {width}x{height} when the "
            "data set was read; start again"
        )
    return image


def resize_long_side(image: ImageArray, long_side: int, interpolation: int) -> ImageArray:
    """The image with its longer side `long_side` pixels long; itself where it is."""
    image_hw = (image.shape[0], image.shape[1])
    height, width = long_side_hw(image_hw, long_side)
    if (height, width) == image_hw:
        return image
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)
