"""Where tiles lie, and how what they find becomes one list."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.detect.tiles import (
    Seen,
    TileRules,
    cut_tiles,
    merge_detections,
    merge_greedily,
    tile_grid,
)
from utils.letterbox import InputSize
from utils.postprocess import PostprocessConfig
from utils.structures import Detections

SIDES = st.integers(1, 700)
OVERLAPS = st.integers(0, 90).map(lambda percent: percent / 100)
RULES = PostprocessConfig(iou_threshold=0.5)


# Where tiles lie


@settings(deadline=None, max_examples=50)
@given(SIDES, SIDES, SIDES, SIDES, OVERLAPS)
def test_tiles_cover_the_image_and_overlap_as_asked(height, width, tile_h, tile_w, overlap):
    rules = TileRules((tile_h, tile_w), overlap)
    grid = tile_grid((height, width), rules)
    hundredths = Fraction(round(overlap * 100), 100)
    for axis, length, tile in ((0, width, tile_w), (1, height, tile_h)):
        spans = sorted({(row[axis], row[axis + 2]) for row in grid.tolist()})
        side = min(tile, length)
        assert spans[0][0] == 0 and spans[-1][1] == length  # inside, from edge to edge
        assert all(end - start == side for start, end in spans)  # of one size
        step = max(side - math.ceil(hundredths * side), 1)
        for (start, end), (following, _) in itertools.pairwise(spans):
            assert start < following <= end  # no gap
            assert following - start <= step  # which is the overlap asked for
        # As few as that allows: one less would not reach the end.
        assert len(spans) == 1 or (len(spans) - 2) * step + side < length
    lefts, tops = ({row[axis] for row in grid.tolist()} for axis in (0, 1))
    assert len(grid) == len({tuple(row) for row in grid.tolist()}) == len(lefts) * len(tops)


@pytest.mark.parametrize(
    ("image_hw", "tile_hw", "overlap", "expected"),
    [
        ((1, 1), (640, 640), 0.2, [(0, 0, 1, 1)]),  # a pixel
        ((480, 640), (640, 640), 0.2, [(0, 0, 640, 480)]),  # smaller than a tile
        ((640, 641), (640, 640), 0.9, [(0, 0, 640, 640), (1, 0, 641, 640)]),  # a pixel too wide
        ((10, 30), (10, 10), 0.0, [(0, 0, 10, 10), (10, 0, 20, 10), (20, 0, 30, 10)]),  # no overlap
        ((30, 10), (30, 10), 0.1, [(0, 0, 10, 30)]),
        # 0.1 * 30 is a bit more than 3, of which float arithmetic must not make 4.
        ((30, 57), (30, 30), 0.1, [(0, 0, 30, 30), (27, 0, 57, 30)]),
        # Higher than a tile, not wider.
        ((48, 8), (32, 32), 0.5, [(0, 0, 8, 32), (0, 16, 8, 48)]),
    ],
)
def test_grids(image_hw, tile_hw, overlap, expected):
    grid = tile_grid(image_hw, TileRules(tile_hw, overlap))
    assert [tuple(row) for row in grid.tolist()] == expected
    assert grid.dtype == np.int64


@settings(deadline=None, max_examples=25)
@given(
    st.integers(33, 300), st.integers(33, 300), st.integers(32, 200),
    st.sampled_from([0, 0.2, 0.33, 0.5]), st.booleans(),
)  # fmt: skip
def test_boxes_of_tiles_come_back_exactly(height, width, side, overlap, auto):
    """A box of whole pixels, mapped into a tile's network input and back, is itself."""
    image = np.zeros((height, width, 3), np.uint8)
    size = InputSize((64, 96), 32 if auto else None)
    for tile in cut_tiles(image, TileRules((side, side), overlap), size):
        x, y, _, _ = tile.box
        tile_h, tile_w = tile.image.shape[:2]
        box = np.array([[x, y, x + tile_w, y + tile_h], [x + 3, y + 1, x + 7, y + 9]], np.float32)
        inside = tile.letterbox.apply_boxes(box - np.array([x, y, x, y], np.float32))
        found = Detections(inside, np.ones(2, np.float32), np.zeros(2, np.int64))
        back = tile.in_whole(found.in_original(tile.letterbox))
        np.testing.assert_allclose(back.detections.boxes, box, atol=1e-3)


def test_tiles_hold_the_pixels_of_the_image():
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    rules = TileRules((32, 32), 0.25)
    tiles = cut_tiles(image, rules, InputSize((32, 32), 32))
    for tile, (left, top, right, bottom) in zip(tiles, tile_grid((50, 70), rules), strict=True):
        np.testing.assert_array_equal(tile.image, image[top:bottom, left:right])
        # As large as the input: the network sees these very pixels.
        np.testing.assert_array_equal(tile.letterbox.apply_image(tile.image), tile.image)
    assert cut_tiles(image, TileRules((70, 70)), InputSize((32, 32), 32)) == []  # one is all


def test_rules_from_flags():
    size = InputSize((320, 640), 32)
    rules = TileRules.of(0, size, overlap=0.1, merge="nmm", batch_size=4)
    assert rules == TileRules((320, 640), 0.1, "nmm", 4)
    assert TileRules.of(96, size, overlap=0, merge="nms", batch_size=1).tile_hw == (96, 96)


# How what they find becomes one list


def detections(*rows):
    """(x1, y1, x2, y2, score, class) each."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(int)
    )


def rows_of(found):
    return [
        (*box, round(score, 4), class_id)
        for box, score, class_id in zip(
            found.boxes.tolist(), found.scores.tolist(), found.class_ids.tolist(), strict=True
        )
    ]


LEFT, RIGHT = (10, 10, 30, 30, 0.9, 0), (24, 10, 44, 30, 0.8, 0)  # 6 of 20 columns in common
INSIDE = (12, 12, 20, 30, 0.7, 0)  # in LEFT
CASES = [
    # parts, merge, settings, expected
    ([], "nms", {}, []),
    ([], "nmm", {}, []),
    ([LEFT], "nmm", {}, [LEFT]),
    ([LEFT, LEFT], "nms", {}, [LEFT]),  # the same object twice
    ([LEFT, LEFT], "nmm", {}, [LEFT]),
    ([LEFT, INSIDE], "nms", {}, [LEFT, INSIDE]),  # IoU 0.36: two objects
    ([LEFT, INSIDE], "nmm", {}, [LEFT]),  # IoS 1: a part of the object
    ([LEFT, RIGHT], "nmm", {}, [LEFT, RIGHT]),  # IoS 0.3
    # A part that a tile's edge cut off, and the whole: grows to what both cover.
    ([(10, 10, 30, 30, 0.9, 0), (14, 10, 40, 30, 0.5, 0)], "nmm", {}, [(10, 10, 40, 30, 0.9, 0)]),
    ([LEFT, (*LEFT[:5], 1)], "nms", {}, [LEFT, (*LEFT[:5], 1)]),  # classes do not meet
    ([LEFT, (*LEFT[:5], 1)], "nmm", {}, [LEFT, (*LEFT[:5], 1)]),
    ([LEFT, (*LEFT[:5], 1)], "nms", {"class_agnostic": True}, [LEFT]),
    ([LEFT, (10, 10, 28, 34, 0.95, 1)], "nmm", {"class_agnostic": True},
     [(10, 10, 30, 34, 0.95, 1)]),  # the better one's class
    ([RIGHT, LEFT], "nms", {}, [LEFT, RIGHT]),  # best first
    ([LEFT, RIGHT, (80, 80, 90, 90, 0.95, 1)], "nms", {"max_detections": 2},
     [(80, 80, 90, 90, 0.95, 1), LEFT]),
    ([(5, 5, 5, 9, 0.9, 0), (5, 5, 5, 9, 0.8, 0)], "nmm", {},
     [(5, 5, 5, 9, 0.9, 0), (5, 5, 5, 9, 0.8, 0)]),  # without area nothing overlaps
]  # fmt: skip


@pytest.mark.parametrize(("rows", "merge", "settings", "expected"), CASES)
def test_merging(rows, merge, settings, expected):
    rules = PostprocessConfig(**{"iou_threshold": 0.5, **settings})
    parts = [Seen.whole(detections(row)) for row in rows] or [Seen.whole(Detections.empty())] * 2
    found = merge_detections(parts, rules, merge)
    assert rows_of(found) == [tuple(map(pytest.approx, row)) for row in expected]
    assert (found.boxes.dtype, found.scores.dtype, found.class_ids.dtype) == (
        np.float32, np.float32, np.int64,
    )  # fmt: skip


@pytest.mark.parametrize("merge", ["nms", "nmm"])
def test_classes_stay_apart_in_images_of_any_width(merge):
    """Boxes of two classes whose distance is what separates classes in network inputs."""
    rows = [(0, 0, 50, 50, 0.9, 1), (7680, 7680, 7730, 7730, 0.8, 0)]
    parts = [Seen.whole(detections(row)) for row in rows]
    assert len(merge_detections(parts, RULES, merge)) == 2


def image_of_four():
    """Tiles of an image of 100 x 100: (0, 40) to (64, 100) in both directions."""
    image = np.zeros((100, 100, 3), np.uint8)
    tiles = cut_tiles(image, TileRules((60, 60), 0.2), InputSize((60, 60), None))
    assert [tile.box[:2] for tile in tiles] == [(0, 0), (40, 0), (0, 40), (40, 40)]
    return tiles


@pytest.mark.parametrize(
    ("number", "box", "cut"),
    [
        (0, (0, 0, 30, 30), False),  # at the image's own edge
        (0, (20, 20, 52, 30), True),  # 8 px from the tile's right edge: cut there
        (0, (20, 20, 51, 30), False),
        (0, (20, 20, 30, 60), True),  # below
        (3, (8, 20, 30, 60), True),  # on the left, of which the tile has no more
        (3, (9, 20, 30, 60), False),  # ends at the image's edge
        (3, (20, 0, 30, 30), True),  # above
    ],
)  # fmt: skip
def test_which_boxes_an_edge_cuts(number, box, cut):
    tile = image_of_four()[number]
    seen = tile.in_whole(detections((*box, 0.5, 0)))
    assert seen.cut.tolist() == [cut]
    corner = np.array(tile.box[:2] * 2)
    np.testing.assert_array_equal(seen.detections.boxes[0], box + corner)


def test_the_edge_is_measured_in_pixels_of_the_input():
    tiles = cut_tiles(
        np.zeros((100, 100, 3), np.uint8), TileRules((60, 60)), InputSize((240, 240), 8)
    )
    seen = tiles[0].in_whole(detections((20, 20, 57, 30, 0.5, 0), (20, 20, 58, 30, 0.5, 0)))
    assert seen.cut.tolist() == [False, True]  # 2 px of the image are 8 of the input


PART, WHOLE = (40, 10, 60, 30, 0.9, 0), (10, 10, 60, 30, 0.4, 0)
PARTS = [
    # the part, whole objects, what is left by nms
    (PART, [WHOLE], [WHOLE]),  # however well the part scores
    (PART, [], [PART]),  # nothing shows all of it
    (PART, [(*WHOLE[:5], 1)], [PART, (*WHOLE[:5], 1)]),  # of another class
    (PART, [(10, 10, 50, 30, 0.4, 0)], [(10, 10, 50, 30, 0.4, 0)]),  # half of it
    (PART, [(10, 10, 49, 30, 0.4, 0)], [PART, (10, 10, 49, 30, 0.4, 0)]),  # less
]


@pytest.mark.parametrize(("part", "whole", "expected"), PARTS)
def test_parts_of_objects_that_are_found_whole_are_dropped(part, whole, expected):
    parts = [Seen(detections(part), np.array([True])), Seen.whole(detections(*whole))]
    assert rows_of(merge_detections(parts, RULES, "nms")) == [
        tuple(map(pytest.approx, row)) for row in expected
    ]


def test_merging_of_low_scores_is_warned_of(caplog):
    for merge, threshold in (("nmm", 0.1), ("nms", 0.001), ("nmm", 0.05)):
        TileRules((64, 64), 0.2, merge).warn_of_low_scores(threshold)
    assert caplog.messages == [
        "--tile-merge nmm: at --conf-thres 0.05 boxes grow around all that scores nearly nothing; "
        "use nms, or a --conf-thres of at least 0.1"
    ]


def reference_merging(rows, threshold):
    """Greedy merging in float64, one pair after the other."""

    def ios(a, b):
        wide = min(a[2], b[2]) - max(a[0], b[0])
        high = min(a[3], b[3]) - max(a[1], b[1])
        smaller = min((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b))
        return max(wide, 0) * max(high, 0) / smaller if smaller > 0 else 0

    rest = sorted(rows, key=lambda row: -row[4])
    merged = []
    while rest:
        best, *others = rest
        grown, rest = list(best), []
        for other in others:
            if ios(best, other) < threshold:
                rest.append(other)
            elif ios(grown, other) >= threshold:
                grown[:4] = [min(grown[0], other[0]), min(grown[1], other[1]),
                             max(grown[2], other[2]), max(grown[3], other[3])]  # fmt: skip
        merged.append(tuple(grown))
    return merged


@pytest.mark.parametrize("seed", range(20))
def test_merging_as_the_reference_does(seed):
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 100, (40, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, 50, (40, 2))], axis=1)
    scores = rng.permutation(40) / 64 + 0.125
    rows = [(*box, score, 0) for box, score in zip(boxes.tolist(), scores, strict=True)]
    found = merge_greedily(detections(*rows))
    expected = reference_merging(rows, 0.5)
    assert 1 < len(expected) < 40
    assert rows_of(found) == [(*row[:4], round(row[4], 4), 0) for row in expected]


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(12)))
def test_the_order_of_tiles_is_irrelevant(order):
    rng = np.random.default_rng(1)
    corners = rng.integers(0, 40, (12, 2))
    rows = [(x, y, x + 20, y + 20, (index + 1) / 16, index % 2)
            for index, (x, y) in enumerate(corners.tolist())]  # fmt: skip

    def seen(row, index):
        return Seen(detections(row), np.array([index % 3 == 0]))

    for merge in ("nms", "nmm"):
        found, expected = (
            merge_detections([seen(rows[index], index) for index in each], RULES, merge)
            for each in (order, range(12))
        )
        assert rows_of(found) == rows_of(expected)
