"""Anchors against boxes: by hand, and as training assigns them."""

from __future__ import annotations

import numpy as np
import pytest

from models.network.anchors import check_anchors, fit_anchors

ANCHORS = np.array([[10.0, 10.0], [40.0, 80.0]])

# width, height, threshold, how many anchors are close enough
BOXES = [
    (10, 10, 4.0, 1),  # the anchor itself
    (39, 39, 4.0, 2),  # 3.9 times one side of the first, about half of the second
    (41, 10, 4.0, 0),  # too wide for the first, too low for the second
    (2.4, 10, 4.0, 0),  # less than a quarter
    (2.6, 10, 4.0, 1),
    (21, 21, 2.0, 0),
    (21, 41, 2.0, 1),
]


@pytest.mark.parametrize(("width", "height", "threshold", "close"), BOXES)
def test_one_box(width, height, threshold, close):
    fit = fit_anchors(np.array([[width, height]], float), ANCHORS, threshold)
    assert fit.anchors_per_box == close
    assert fit.best_possible_recall == (close > 0)
    assert fit.unreachable == (close == 0)


def test_several_boxes():
    sizes = np.array([[10, 10], [12, 9], [50, 70], [500, 3]], float)
    fit = fit_anchors(sizes, ANCHORS, 4.0)
    assert fit.best_possible_recall == 0.75
    assert fit.unreachable == 1
    assert sum(fit.boxes_per_anchor) == 4
    assert fit.boxes_per_anchor[:2] == (3, 1) or fit.boxes_per_anchor == (2, 2)


def test_no_boxes():
    fit = fit_anchors(np.zeros((0, 2)), ANCHORS, 4.0)
    assert (fit.best_possible_recall, fit.boxes_per_anchor) == (1.0, (0, 0))


def test_the_larger_the_threshold_the_more_can_be_learned():
    sizes = np.random.default_rng(0).uniform(2, 300, (500, 2))
    recalls = [fit_anchors(sizes, ANCHORS, t).best_possible_recall for t in (1.5, 2, 4, 8)]
    assert recalls == sorted(recalls) and recalls[0] < recalls[-1]


def test_anchors_that_stand_in_are_replaced_however_well_they_fit():
    sizes = np.random.default_rng(0).uniform(20, 40, (200, 2))
    fitting = ((25.0, 25.0, 35.0, 35.0),)

    assert check_anchors(fitting, sizes, 4.0, seed=0) == fitting
    found = check_anchors(fitting, sizes, 4.0, seed=0, from_data=True)
    assert found != fitting and len(found[0]) == 4
    assert check_anchors(fitting, sizes[:0], 4.0, seed=0, from_data=True) == fitting
