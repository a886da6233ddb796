"""Side-by-side images: where what is drawn, and that captions fit."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.utils.detect.test_comparison import detections
from utils.detect.comparison import Comparison
from utils.detect.comparison_image import (
    COLORS,
    GAP,
    MAX_SIDE,
    MIN_CELL,
    MIN_SIDE,
    ComparisonStyle,
    draw_comparison,
)

STYLE = ComparisonStyle(("a.pt", "b.onnx"), ("cat", "dog"), hide_labels=True)
# by status: where in an image of 800 x 800
BOXES = {
    "agreeing": (50, 50, 250, 250),
    "differing": (450, 50, 650, 250),
    "missing": (50, 450, 250, 650),
    "extra": (450, 450, 650, 650),
}


def halves(image, image_hw=(800, 800), style=STYLE, comparison=None):
    """The two panels of an image of plain gray."""
    drawn = draw_comparison(np.full((*image_hw, 3), image, np.uint8), comparison, style)
    if image_hw[1] > 2 * image_hw[0]:
        half = (drawn.shape[0] - GAP) // 2
        return drawn[:half], drawn[-half:]
    half = (drawn.shape[1] - GAP) // 2
    return drawn[:, :half], drawn[:, -half:]


def all_kinds():
    first = [(BOXES["agreeing"], 0.9, 0), (BOXES["differing"], 0.8, 0), (BOXES["missing"], 0.7, 0)]
    second = [(BOXES["agreeing"], 0.9, 0), (BOXES["differing"], 0.8, 1), (BOXES["extra"], 0.7, 0)]
    return Comparison.of(detections(*first), detections(*second))


def share_of_edge(panel, status):
    """How much of the box's left edge has the color of its status; 0 to 1."""
    left, top, _, bottom = BOXES[status]
    rows = panel[len(panel) - 800 + top : len(panel) - 800 + bottom, left]
    return float((rows == COLORS[status]).all(1).mean())


def test_each_network_has_its_own_boxes_and_outlines_of_those_it_lacks():
    left, right = halves(90, comparison=all_kinds())
    for panel in (left, right):
        assert share_of_edge(panel, "agreeing") > 0.95
        assert share_of_edge(panel, "differing") > 0.95
    assert share_of_edge(left, "missing") > 0.95 and share_of_edge(right, "extra") > 0.95
    # dashed: part of the edge
    assert 0.3 < share_of_edge(right, "missing") < 0.8
    assert 0.3 < share_of_edge(left, "extra") < 0.8


def test_captions_count_the_boxes_of_each_status():
    left, right = halves(90, comparison=all_kinds())
    for panel, shown in (
        (left, ("agreeing", "differing", "missing")),
        (right, ("agreeing", "differing", "extra")),
    ):
        caption = panel[: len(panel) - 800]
        for status, color in COLORS.items():
            assert bool((caption == color).all(2).any()) == (status in shown)


@pytest.mark.parametrize(
    "image_hw", [(800, 800), (64, 48), (10, 10), (3000, 100), (100, 3000), (300, 600), (300, 601),
                 (2160, 3840), (10, 900)],
)  # fmt: skip
def test_any_shape_has_both_halves_and_captions_that_fit(image_hw):
    height, width = image_hw
    box = (0.1 * width, 0.1 * height, 0.9 * width, 0.9 * height)
    comparison = Comparison.of(detections((box, 0.9, 0)), detections((box, 0.5, 1)))
    style = ComparisonStyle(("x" * 300 + "/best.pt", "ü日本.pt"), ("cat", "dog"))
    first, second = halves(90, image_hw, style, comparison)
    assert first.shape == second.shape
    assert first.shape[1] >= MIN_CELL and max(first.shape) <= MAX_SIDE + 100
    longer = max(first.shape[0], first.shape[1])
    assert longer >= MIN_SIDE
    assert (first == COLORS["differing"]).all(2).any()
    # the last columns are paper: no name is cut off by the edge
    rows = int(np.flatnonzero((first[:, :2] != 255).any((1, 2)))[0])
    for panel in (first, second):
        assert (panel[:rows, -2:] == 255).all()


def test_the_image_itself_is_not_drawn_on():
    image = np.full((800, 800, 3), 90, np.uint8)
    draw_comparison(image, all_kinds(), STYLE)
    assert (image == 90).all()


def test_nothing_found():
    left, right = halves(90, comparison=Comparison.of(detections(), detections()))
    assert (left[-800:] == 90).all() and (right[-800:] == 90).all()
    assert (left[:-800] < 128).any()  # a caption says so
