"""Box formats and overlaps, in numpy.

Inside the project a box is xyxy: left, top, right, bottom in pixels. Other forms live at the
border: `cxcywh` (centre and size, YOLO text and the network's own coordinates) and `xywh` (corner
and size, COCO json). The functions take and return (N, 4) arrays and accept N = 0.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from utils.structures import FloatArray

FloatT = TypeVar("FloatT", np.float32, np.float64)


def xyxy_to_cxcywh(boxes: FloatArray) -> FloatArray:
    """Corners to centre and size."""
    size = boxes[:, 2:] - boxes[:, :2]
    return np.concatenate([boxes[:, :2] + size / 2, size], axis=1)


def cxcywh_to_xyxy(boxes: FloatArray) -> FloatArray:
    """Centre and size to corners."""
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def xyxy_to_xywh(boxes: FloatArray) -> FloatArray:
    """Corners to left-top corner and size, as COCO json writes boxes."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def clip_boxes(boxes: FloatArray, image_hw: tuple[int, int]) -> FloatArray:
    """Boxes cut off at the edges of an image of height and width `image_hw`."""
    height, width = image_hw
    limit = np.array([width, height, width, height], boxes.dtype)
    return np.clip(boxes, 0, limit)


def box_area(boxes: npt.NDArray[FloatT]) -> npt.NDArray[FloatT]:
    """(N,) area in square pixels, in the precision of the boxes."""
    area: npt.NDArray[FloatT] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return area


def pairwise_iou(boxes: npt.NDArray[FloatT], others: npt.NDArray[FloatT]) -> npt.NDArray[FloatT]:
    """(N, K) intersection over union of each of `boxes` (N, 4) with each of `others` (K, 4)."""
    left_top = np.maximum(boxes[:, None, :2], others[None, :, :2])
    right_bottom = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    overlap = np.clip(right_bottom - left_top, 0, None).prod(axis=2)
    union = box_area(boxes)[:, None] + box_area(others)[None, :] - overlap
    iou: npt.NDArray[FloatT] = overlap / np.maximum(union, np.finfo(np.float32).tiny)
    return iou
