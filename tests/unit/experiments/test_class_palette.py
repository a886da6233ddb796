"""Colors of classes: how far apart they are, by a distance that is itself checked."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.class_palette import (
    COUNT,
    FIRST,
    candidates,
    choose,
    ciede2000,
    lab,
    smallest_distance,
)
from utils.class_colors import CLASS_COLORS

COLORS = np.array(CLASS_COLORS, float)
# Of the data that Sharma, Wu and Dalal published with the formula: two colors and their distance.
PUBLISHED = [
    ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
    ((50.0, -1.3802, -84.2814), (50.0, 0.0, -82.7485), 1.0000),
    ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
    ((50.0, 2.49, -0.001), (50.0, -2.49, 0.0009), 7.1792),
    ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
    ((50.0, 2.5, 0.0), (56.0, -27.0, -3.0), 31.9030),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ((90.8027, -2.0831, 1.4410), (91.1528, -1.6435, 0.0447), 1.4441),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]


@pytest.mark.parametrize(("one", "other", "distance"), PUBLISHED)
def test_the_distance_is_the_published_one(one, other, distance):
    for first, second in ((one, other), (other, one)):
        found = float(ciede2000(np.array(first), np.array(second)))
        assert found == pytest.approx(distance, abs=1e-4)


def test_lab_of_known_colors():
    found = lab(np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]], float))
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_classes_can_be_told_apart():
    assert len(COLORS) == COUNT
    assert smallest_distance(COLORS[:FIRST]) >= 19
    assert smallest_distance(COLORS) >= 10
    assert ciede2000(lab(COLORS[1:]), lab(COLORS[:-1])).min() >= 12


def test_the_table_is_what_the_program_chooses():
    colors = candidates()
    np.testing.assert_array_equal(colors[choose(colors)], COLORS)
