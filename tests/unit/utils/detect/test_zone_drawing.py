from __future__ import annotations

import numpy as np
import pytest

from utils.detect.zone_counts import ZoneCounter
from utils.detect.zone_drawing import LINE_COLOR, ZONE_COLOR, draw_numbers, draw_shapes
from utils.detect.zones import read_zones
from utils.structures import Detections

FILE = """
lines: {door: {points: [[0.2, 0.5], [0.8, 0.5]]}}
zones: {room: {points: [[0.1, 0.1], [0.9, 0.1], [0.9, 0.3]]}}
"""


def frame_counts(tmp_path, image_hw, text=FILE):
    path = tmp_path / "zones.yaml"
    path.write_text(text)
    return ZoneCounter(read_zones(path), image_hw, ["cat"]).count(Detections.empty(), alive=())


def test_shapes_and_numbers(tmp_path):
    image = np.full((200, 300, 3), 90, np.uint8)
    counts = frame_counts(tmp_path, (200, 300))
    drawn = draw_shapes(image, counts)
    assert (image == 90).all()  # a copy
    assert (drawn[100, 60:240] == LINE_COLOR).all()
    assert (drawn[20, 30:270] == ZONE_COLOR).all()
    assert (drawn[40, 200] != 90).any() and (drawn[60, 100] == 90).all()  # in the zone; beside it
    # East is the way of the line: its arrow points south, where tracks come in.
    assert (drawn[104, 150] == LINE_COLOR).all() and (drawn[92:97, 150] == 90).all()
    before = drawn.copy()
    draw_numbers(drawn, counts)
    rows = np.flatnonzero((drawn != before).any(axis=(1, 2)))
    assert rows.size and rows.min() < 100 < rows.max() + 20


@pytest.mark.parametrize("image_hw", [(1, 1), (2, 300), (300, 2), (12, 12)])
def test_tiny_images(tmp_path, image_hw):
    counts = frame_counts(tmp_path, image_hw)
    drawn = draw_shapes(np.zeros((*image_hw, 3), np.uint8), counts, line_thickness=5)
    draw_numbers(drawn, counts)
    assert drawn.shape == (*image_hw, 3)


def test_a_name_in_another_script_and_corners_on_the_edge(tmp_path):
    text = "zones: {'платформа': {points: [[0, 0], [1, 0], [1, 1], [0, 1]]}}"
    counts = frame_counts(tmp_path, (60, 80), text)
    drawn = draw_shapes(np.zeros((60, 80, 3), np.uint8), counts)
    draw_numbers(drawn, counts)
    assert drawn.any(axis=2).all()
