"""Drawn blood cells: labels that are where the cells are, in the order of the shipped weights."""

from __future__ import annotations

import numpy as np
import pytest

from data.synthetic.cells import (
    CLASS_NAMES,
    PLATELET,
    RED,
    WHITE,
    Cell,
    cell_targets,
    draw_slide,
    draw_smear,
    place_cells,
)
from data.synthetic.clip import NUM_FRAMES
from data.synthetic.dataset import SyntheticConfig, write_dataset
from tests.error_messages import assert_message
from utils.checkpoint import load_checkpoint
from utils.errors import ConfigError
from utils.logs import SHIPPED_WEIGHTS
from utils.strict_yaml import read_yaml

HW = (240, 320)


def test_classes_are_those_of_the_shipped_weights(tmp_path):
    data = read_yaml(write_dataset(tmp_path / "set", SyntheticConfig(5, 96, kind="cells")))
    assert tuple(data["names"].values()) == CLASS_NAMES
    shipped = SHIPPED_WEIGHTS / "repyolov5n-bccd.pt"
    assert load_checkpoint(shipped).class_names == CLASS_NAMES


def test_the_same_seed_gives_the_same_image():
    first, second, other = (draw_smear(np.random.default_rng(seed), HW)[0] for seed in (1, 1, 2))
    assert first.shape == (*HW, 3) and first.dtype == np.uint8
    assert np.array_equal(first, second) and not np.array_equal(first, other)


@pytest.mark.parametrize("seed", range(5))
def test_boxes_hold_what_is_purple(seed):
    """Of white cells and platelets: nothing else is stained so."""
    image, targets = draw_smear(np.random.default_rng(seed), HW)
    red, green, blue = np.moveaxis(image.astype(int), 2, 0)
    outside = (blue - green > 50) & (blue > red)
    stained = np.count_nonzero(outside)
    for box, class_id in zip(targets.boxes, targets.class_ids, strict=True):
        x1, y1, x2, y2 = box
        assert 0 <= x1 < x2 <= HW[1] and 0 <= y1 < y2 <= HW[0]
        if class_id != RED:
            outside[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = False
    assert np.count_nonzero(outside) <= 0.02 * max(stained, 100)  # cut off at the edge


def test_a_rotated_cell_touches_its_box():
    cell = Cell(RED, (50.0, 40.0), 20.0, 0.6, 0.7)
    angles = np.linspace(0, 2 * np.pi, 10_000)
    across, down = 20 * 0.6 * np.cos(angles), 20 * np.sin(angles)
    cosine, sine = np.cos(0.7), np.sin(0.7)
    x, y = cosine * across - sine * down, sine * across + cosine * down
    expected = [50 + x.min(), 40 + y.min(), 50 + x.max(), 40 + y.max()]
    np.testing.assert_allclose(cell.box(), expected, atol=1e-4)


def test_what_is_mostly_outside_is_not_labelled():
    inside, outside = ((x, 100.0) for x in (0.0, -12.0))  # half of it, and a fifth
    cells = [Cell(WHITE, centre, 20.0, 1.0, 0.0) for centre in (inside, outside)]
    assert cell_targets(cells, HW).boxes.tolist() == [[0, 80, 20, 120]]


def test_sizes_and_numbers_are_those_of_a_smear():
    cells = [cell for seed in range(20) for cell in place_cells(np.random.default_rng(seed), HW)]
    radii = {kind: np.mean([each.radius for each in cells if each.class_id == kind])
             for kind in (RED, WHITE, PLATELET)}  # fmt: skip
    assert radii[PLATELET] < 0.5 * radii[RED] < radii[RED] < 0.6 * radii[WHITE]
    counts = np.bincount([each.class_id for each in cells])
    assert counts[RED] > counts[PLATELET] > 0 and counts[RED] > 5 * counts[WHITE] > 0


def test_a_slide_moves():
    frames = list(draw_slide(np.random.default_rng(0), HW))
    assert len(frames) == NUM_FRAMES and {frame.shape for frame in frames} == {(*HW, 3)}
    assert not np.array_equal(frames[0], frames[-1])


def test_unknown_kinds_are_named():
    with pytest.raises(ConfigError) as caught:
        SyntheticConfig(kind="stars")
    assert_message(str(caught.value), "--kind stars: must be one of ", "shapes, cells")
