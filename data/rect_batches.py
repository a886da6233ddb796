"""Rectangular batches: images of similar aspect ratio share an input shape with little padding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from utils.structures import IntArray


def sort_by_aspect(image_hws: Sequence[tuple[int, int]]) -> IntArray:
    """(N,) indices of the images, widest (smallest height / width) first."""
    aspect = np.array([height / width for height, width in image_hws], np.float64)
    return np.argsort(aspect, kind="stable")


def rect_input_hws(
    sorted_hws: Sequence[tuple[int, int]],
    image_size: int,
    batch_size: int,
    *,
    stride: int,
    pad: float,
) -> tuple[tuple[int, int], ...]:
    """The (height, width) of each image's network input, one shape per batch.

    Args:
        sorted_hws: sizes of the images, sorted by aspect ratio.
        image_size: what the longer side of an image is resized to.
        batch_size: how many consecutive images share a shape.
        stride: the shape is a multiple of it.
        pad: extra padding, in strides.
    """
    shapes: list[tuple[int, int]] = []
    for start in range(0, len(sorted_hws), batch_size):
        batch = sorted_hws[start : start + batch_size]
        aspects = [height / width for height, width in batch]
        tall, wide = 1.0, 1.0
        if max(aspects) < 1:
            tall = max(aspects)
        elif min(aspects) > 1:
            wide = 1 / min(aspects)
        height, width = (
            math.ceil(share * image_size / stride + pad) * stride for share in (tall, wide)
        )
        shapes += [(height, width)] * len(batch)
    return tuple(shapes)
