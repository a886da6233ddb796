"""Box formats are inverse to each other; overlap agrees with counting pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from utils.boxes import (
    box_area,
    clip_boxes,
    cxcywh_to_xyxy,
    pairwise_iou,
    xyxy_to_cxcywh,
    xyxy_to_xywh,
)

BOXES = np.array([[10, 20, 30, 60], [0, 0, 1, 1], [-5, 3, 5, 3]], np.float32)
EMPTY = np.zeros((0, 4), np.float32)
# Corners on quarters of a pixel: halving and adding them is exact in float32.
whole_boxes = st.integers(0, 8).flatmap(
    lambda count: arrays(np.int64, (count, 4), elements=st.integers(-4000, 4000))
)


def quarters(numbers: np.ndarray) -> np.ndarray:
    left_top = np.minimum(numbers[:, :2], numbers[:, 2:])
    right_bottom = np.maximum(numbers[:, :2], numbers[:, 2:])
    return np.concatenate([left_top, right_bottom], axis=1).astype(np.float32) / 4


def test_hand_examples() -> None:
    assert xyxy_to_cxcywh(BOXES).tolist() == [[20, 40, 20, 40], [0.5, 0.5, 1, 1], [0, 3, 10, 0]]
    assert xyxy_to_xywh(BOXES).tolist() == [[10, 20, 20, 40], [0, 0, 1, 1], [-5, 3, 10, 0]]
    assert box_area(BOXES).tolist() == [800, 1, 0]


@given(whole_boxes)
def test_round_trips(numbers: np.ndarray) -> None:
    boxes = quarters(numbers)
    assert np.array_equal(cxcywh_to_xyxy(xyxy_to_cxcywh(boxes)), boxes)
    corner_and_size = xyxy_to_xywh(boxes)
    assert np.array_equal(corner_and_size[:, :2] + corner_and_size[:, 2:], boxes[:, 2:])


@pytest.mark.parametrize(
    "convert", [xyxy_to_cxcywh, cxcywh_to_xyxy, xyxy_to_xywh], ids=lambda f: f.__name__
)
def test_formats_keep_empty_input_and_dtype(convert) -> None:
    assert convert(EMPTY).shape == (0, 4)
    assert convert(BOXES).dtype == np.float32
    assert np.array_equal(BOXES[0], [10, 20, 30, 60])  # the input is not changed


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([-3, -2, 5, 5], [0, 0, 5, 5]),  # over the left top corner
        ([90, 40, 120, 70], [90, 40, 100, 50]),  # over the right bottom corner
        ([10, 10, 20, 20], [10, 10, 20, 20]),  # inside
        ([200, 60, 300, 90], [100, 50, 100, 50]),  # outside: nothing is left
    ],
)
def test_clip_to_a_image_100_wide_and_50_high(box, expected) -> None:
    clipped = clip_boxes(np.array([box], np.float32), (50, 100))
    assert clipped.tolist() == [expected]
    assert clipped.dtype == np.float32


def test_clip_and_area_of_nothing() -> None:
    assert clip_boxes(EMPTY, (5, 5)).shape == (0, 4)
    assert box_area(EMPTY).shape == (0,)


@pytest.mark.parametrize(
    ("box", "other", "expected"),
    [
        ([0, 0, 10, 10], [0, 0, 10, 10], 1.0),  # same
        ([0, 0, 10, 10], [5, 0, 15, 10], 1 / 3),  # half over
        ([0, 0, 10, 10], [10, 0, 20, 10], 0.0),  # touching
        ([0, 0, 10, 10], [30, 30, 40, 40], 0.0),  # apart along both axes
        ([0, 0, 10, 10], [2, 2, 4, 4], 0.04),  # inside
        ([3, 3, 3, 3], [3, 3, 3, 3], 0.0),  # no area at all
    ],
)
def test_iou_hand_examples(box, other, expected) -> None:
    iou = pairwise_iou(np.array([box], np.float32), np.array([other], np.float32))
    assert iou.shape == (1, 1)
    assert iou[0, 0] == pytest.approx(expected)


def test_iou_agrees_with_counting_pixels() -> None:
    generator = np.random.default_rng(0)
    corners = np.sort(generator.integers(0, 24, (30, 2, 2)), axis=1)
    boxes = corners.reshape(-1, 4)
    boxes[:, 2:] += 1
    masks = np.zeros((len(boxes), 25, 25), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    both = (masks[:, None] & masks[None]).sum((2, 3))
    either = (masks[:, None] | masks[None]).sum((2, 3))
    iou = pairwise_iou(boxes.astype(np.float32), boxes.astype(np.float32))
    assert np.allclose(iou, both / either)


@pytest.mark.parametrize(("count", "others"), [(0, 3), (3, 0), (0, 0)])
def test_iou_of_nothing(count, others) -> None:
    assert pairwise_iou(BOXES[:count], BOXES[:others]).shape == (count, others)
