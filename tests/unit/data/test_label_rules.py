from __future__ import annotations

import math

import numpy as np
import pytest

from data.label_rules import check_box, format_numbers, make_label_set, make_targets, no_labels

LIMIT = (200.0, 100.0)


@pytest.mark.parametrize(
    ("box", "expected", "kind", "message"),
    [
        # inside, and touching every edge
        ((10, 20, 30, 40), (10, 20, 30, 40), None, ""),
        ((0, 0, 200, 100), (0, 0, 200, 100), None, ""),
        # decimals of the file: clipped silently
        ((-0.01, 20, 30, 100.005), (0, 20, 30, 100), None, ""),
        # 0.5 % out on the left
        (
            (-1, 20, 30, 40),
            (0, 20, 30, 40),
            "clipped",
            "box reaches 0.50% of a side outside the image, must be inside; clipped",
        ),
        # exactly 1 % out at the bottom
        (
            (10, 20, 30, 101),
            (10, 20, 30, 100),
            "clipped",
            "box reaches 1.00% of a side outside the image, must be inside; clipped",
        ),
        # more than that
        (
            (10, 20, 203, 40),
            None,
            "dropped",
            "box reaches 1.50% of a side outside the image, must be at most 1%; row dropped",
        ),
        # hardly outside, but all of it
        (
            (200, 20, 201, 40),
            None,
            "dropped",
            "box reaches 0.50% of a side outside the image, no part of it is inside; row dropped",
        ),
        # no width; negative height
        ((10, 20, 10, 40), None, "dropped", "width is 0, must be > 0; row dropped"),
        ((10, 20, 30, 15), None, "dropped", "height is -5, must be > 0; row dropped"),
        # not finite
        (
            (10, math.nan, 30, math.inf),
            None,
            "dropped",
            "box is 10 nan 30 inf, must be finite; row dropped",
        ),
    ],
)
def test_check_box(box, expected, kind, message):
    assert check_box(box, LIMIT, rounding=1e-4) == (expected, kind, message)


def test_format_numbers():
    assert format_numbers([0.5, 2.0, -1e-9]) == "0.5 2 -1e-09"
    assert format_numbers([]) == ""


def test_make_targets_of_nothing():
    targets = make_targets([], [])

    assert targets.boxes.shape == (0, 4) and targets.boxes.dtype == np.float32
    assert targets.class_ids.shape == (0,) and targets.class_ids.dtype == np.int64


def test_areas_default_to_those_of_the_boxes():
    labels = make_label_set([(0, 0, 4, 5)], [1], [])

    assert labels.areas.tolist() == [20.0]
    assert make_label_set([], [], []).areas.shape == (0,)
    assert make_label_set([(0, 0, 4, 5)], [1], [], areas=[7.5]).areas.tolist() == [7.5]


def test_no_labels_says_that_there_is_no_file():
    assert not no_labels().has_file
    assert len(no_labels().targets) == len(no_labels().crowd) == len(no_labels().areas) == 0
