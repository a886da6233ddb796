"""Assignment against the rule written out slowly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.losses.assign import assign
from tests.assignment_levels import levels_of

ANCHORS = [[(10, 13), (16, 30), (33, 23)], [(30, 61), (62, 45), (59, 119)]]
STRIDES = (8, 16)
THRESHOLD = 4.0


def slow_level(objects, anchors, stride, grid_hw):
    """{(neighbour, anchor, object): (row, column, box)} with one `if` per clause of the rule."""
    rows, columns = grid_hw
    pairs = {}
    for number, (_, _, box) in enumerate(objects):
        cx, cy, w, h = (side / stride for side in box)
        neighbours = {"own": (cx, cy)}
        if cx % 1 < 0.5 and cx > 1:
            neighbours["left"] = (cx - 0.5, cy)
        if cy % 1 < 0.5 and cy > 1:
            neighbours["top"] = (cx, cy - 0.5)
        if (columns - cx) % 1 < 0.5 and columns - cx > 1:
            neighbours["right"] = (cx + 0.5, cy)
        if (rows - cy) % 1 < 0.5 and rows - cy > 1:
            neighbours["bottom"] = (cx, cy + 0.5)
        for anchor, (aw, ah) in enumerate(anchors):
            ratios = [w / (aw / stride), h / (ah / stride)]
            if max(max(ratio, 1 / ratio) for ratio in ratios) >= THRESHOLD:
                continue
            for name, (x, y) in neighbours.items():
                column, row = int(x), int(y)
                inside = (min(max(row, 0), rows - 1), min(max(column, 0), columns - 1))
                pairs[name, anchor, number] = (*inside, (cx - column, cy - row, w, h))
    return pairs


def as_tensors(objects):
    return (
        torch.tensor([image for image, _, _ in objects], dtype=torch.int64),
        torch.tensor([class_id for _, class_id, _ in objects], dtype=torch.int64),
        torch.tensor([box for _, _, box in objects], dtype=torch.float64).view(-1, 4),
    )


def run(objects, grids):
    found = assign(
        *as_tensors(objects),
        anchors=[torch.tensor(level, dtype=torch.float64) for level in ANCHORS],
        strides=STRIDES,
        grids_hw=grids,
        ratio_threshold=THRESHOLD,
    )
    return levels_of(found)


# In sixteenths of a pixel, so that every step of the rule is exact; borders of cells included.
sides = st.integers(16, 16 * 100).map(lambda n: n / 16)
positions = st.integers(0, 16 * 64).map(lambda n: n / 16)
objects = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 4), st.tuples(positions, positions, sides, sides)),
    max_size=6,
)


@settings(deadline=None, max_examples=150)
@given(objects=objects)
def test_against_the_rule(objects):
    grids = [(8, 8), (4, 4)]
    for level, found in enumerate(run(objects, grids)):
        expected = slow_level(objects, ANCHORS[level], STRIDES[level], grids[level])
        neighbours = ["own", "left", "top", "right", "bottom"]
        order = sorted(expected, key=lambda key: (neighbours.index(key[0]), key[1], key[2]))
        assert found.anchor_index.tolist() == [anchor for _, anchor, _ in order]
        assert found.image_index.tolist() == [objects[number][0] for *_, number in order]
        assert found.class_ids.tolist() == [objects[number][1] for *_, number in order]
        assert found.row.tolist() == [expected[key][0] for key in order]
        assert found.column.tolist() == [expected[key][1] for key in order]
        boxes = [list(expected[key][2]) for key in order]
        assert found.boxes.tolist() == boxes
        sizes = [[side / STRIDES[level] for side in ANCHORS[level][a]] for _, a, _ in order]
        assert found.anchors.tolist() == sizes
        # Of the pairs that want one anchor of one cell, the last.
        wanted = [(objects[number][0], anchor, *expected[neighbour, anchor, number][:2])
                  for neighbour, anchor, number in order]  # fmt: skip
        assert found.is_last.tolist() == [
            float(each not in wanted[index + 1 :]) for index, each in enumerate(wanted)
        ]


def test_by_hand():
    """Centre (20, 12) is cell (2.5, 1.5) at stride 8: exactly in the middle, so no neighbour."""
    level = run([(0, 3, (20.0, 12.0, 10.0, 13.0))], [(8, 8), (4, 4)])[0]
    assert level.anchor_index.tolist() == [0, 1, 2]
    assert set(zip(level.row.tolist(), level.column.tolist(), strict=True)) == {(1, 2)}
    level = run([(0, 3, (18.0, 14.0, 10.0, 13.0))], [(8, 8), (4, 4)])[0]
    cells = set(zip(level.row.tolist(), level.column.tolist(), strict=True))
    assert cells == {(1, 2), (1, 1), (2, 2)}  # own, left, bottom


@pytest.mark.parametrize("objects", [[], [(0, 0, (20.0, 20.0, 1.0, 400.0))]])
def test_nothing_fits(objects):
    """No objects, or an object longer than four times every anchor."""
    for level in run(objects, [(8, 8), (4, 4)]):
        assert level.boxes.shape == (0, 4)
        assert level.anchors.shape == (0, 2)
        assert level.row.shape == level.image_index.shape == level.class_ids.shape == (0,)


def test_an_object_at_the_edge_stays_in_the_grid():
    level = run([(0, 0, (64.0, 64.0, 10.0, 13.0))], [(8, 8), (4, 4)])[0]
    assert set(level.row.tolist()) == set(level.column.tolist()) == {7}
