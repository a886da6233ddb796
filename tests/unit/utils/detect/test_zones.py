"""Zones files: what is read, and what each mistake is answered with."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.detect.zones import cross_product, distance_from_line, read_zones, segments_meet
from utils.errors import ConfigError

NAMES = ("person", "bicycle", "car")
MANY = [[i, i * i] for i in range(201)]
SQUARE = "[[0, 0], [10, 0], [10, 10], [0, 10]]"


@pytest.fixture
def read(tmp_path):
    def write_and_read(text: str):
        path = tmp_path / "zones.yaml"
        path.write_text(text, encoding="utf-8")
        return read_zones(path)

    return write_and_read


def test_a_file(read):
    file = read(
        "lines:\n"
        "  door: {points: [[0, 100], [50, 100.5]]}\n"
        "zones:\n"
        "  платформа 1: {points: [[0.1, 0], [1, 0], [1, 0.5]], classes: [car, 0], anchor: center}\n"
    )
    (door,), (platform,) = file.lines, file.zones
    assert (door.name, door.is_fraction, door.anchor) == ("door", False, "bottom")
    assert (platform.name, platform.is_fraction, platform.anchor) == ("платформа 1", True, "center")
    assert door.in_pixels((200, 60)).tolist() == [[0, 100], [50, 100.5]]
    assert np.allclose(platform.in_pixels((200, 60)), [[6, 0], [60, 0], [60, 100]])
    assert door.class_ids(NAMES, None) is None
    assert platform.class_ids(NAMES, None) == {0, 2}
    assert platform.class_ids(NAMES, [0, 1, 2]) == {0, 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "zones.yaml: has neither lines nor zones; name at least one"),
        ("lines: {}", "has neither lines nor zones"),
        ("line: {}", "unknown key 'line'; did you mean 'lines'?"),
        ("lines: [1]", "lines is [1], expected names"),
        ("zones: {1: {points: []}}", "zones: the name 1 is not a text of one line; write it in"),
        ("zones: {'': {points: []}}", "the name '' is not a text"),
        ('zones: {"a\\nb": {points: []}}', "the name 'a\\nb' is not a text of one line"),
        ("zones: {a: [[0, 0]]}", "zones.a is [[0, 0]], expected `points:"),
        ("zones: {a: }", "zones.a is None, expected `points:"),
        ("zones: {a: {point: []}}", "zones.a: unknown key 'point'; did you mean 'points'?"),
        ("zones: {a: {classes: [car]}}", "zones.a: key 'points' is missing"),
        (f"zones: {{a: {{points: {SQUARE}, class: [car]}}}}", "did you mean 'classes'?"),
        ("zones: {a: {points: 3}}", "zones.a.points is 3, expected `[[x, y], ...]`"),
        (f"zones: {{a: {{points: {MANY}}}}}", "is 201 points, expected"),
        ("zones: {a: {points: [[1, 2], [3], [4, 5]]}}", "point 2 is [3], expected two numbers"),
        ("zones: {a: {points: [[1, 2], [3, true], [4, 5]]}}", "point 2 is [3, True]"),
        ("zones: {a: {points: [[1, 2], [3, .nan], [4, 5]]}}", "point 2 is [3, nan]"),
        ("zones: {a: {points: [[1, 2], [3, .inf], [4, 5]]}}", "point 2 is [3, inf]"),
        ("zones: {a: {points: [[1, 2], [3, '4'], [4, 5]]}}", "point 2 is [3, '4']"),
        ("zones: {a: {points: [[1, 2], [-3, 4], [4, 5]]}}", "point 2, [-3, 4], is outside"),
        ("zones: {a: {points: [[0.5, 2], [30, 40], [4, 5]]}}", "0.5 is a fraction of the image "
         "and 40 is in pixels"),
        ("zones: {a: {points: [[0, 0], [1, 0]]}}", "has 2 points, a zone has at least three"),
        ("zones: {a: {points: []}}", "has 0 points"),
        ("zones: {a: {points: [[0, 0], [9, 0], [9, 9], [0, 0]]}}", "points 1 and 4 are both"),
        ("zones: {a: {points: [[0, 0], [9, 9], [9, 0], [0, 9]]}}", "edge [0, 0] to [9, 9] meets "
         "the edge [9, 0] to [0, 9]"),  # a bow tie
        ("zones: {a: {points: [[0, 0], [5, 5], [9, 9]]}}", "meets"),  # no area: there and back
        ("zones: {a: {points: [[0, 0], [9, 0], [5, 0], [5, 5]]}}", "meets"),  # folds back
        ("zones: {a: {points: [[0, 0], [9, 0], [9, 9], [5, 0], [0, 9]]}}", "meets"),  # touches
        ("lines: {a: {points: [[0, 0]]}}", "has 1 points, a line has two"),
        (f"lines: {{a: {{points: {SQUARE}}}}}", "has 4 points, a line has two; an area is one of"),
        ("lines: {a: {points: [[5, 5], [5, 5]]}}", "the ends, [5, 5] and [5, 5], are the same"),
        ("lines: {a: {points: [[0.5, 0.5], [0.5, 0.5001]]}}", "are the same"),
        ("lines: {a: {points: [[50, 50], [50, 50.5]]}}", "are the same"),
        (f"zones: {{a: {{points: {SQUARE}, classes: car}}}}", "classes is 'car', expected names"),
        (f"zones: {{a: {{points: {SQUARE}, classes: []}}}}", "classes is [], expected names or"),
        (f"zones: {{a: {{points: {SQUARE}, classes: [-1]}}}}", "classes is [-1], expected"),
        (f"zones: {{a: {{points: {SQUARE}, classes: [true]}}}}", "classes is [True], expected"),
        (f"zones: {{a: {{points: {SQUARE}, anchor: centre}}}}", "did you mean 'center'?"),
        (f"zones: {{a: {{points: {SQUARE}, anchor: [1]}}}}", "anchor is [1]: no such point"),
        (f"zones:\n  a: {{points: {SQUARE}}}\n  a: {{points: {SQUARE}}}", "'a' is written twice"),
    ],
)  # fmt: skip
def test_mistakes(read, text, message):
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert message in str(caught.value)
    assert "zones.yaml: " in str(caught.value) and "\n" not in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        read_zones(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("classes", "wanted", "message"),
    [
        ("[persn]", None, "no class is called 'persn'; did you mean 'person'?"),
        ("[3]", None, "there is no class 3; the network has 0 to 2"),
        ("[car]", [0, 1], "car (class 2) is not among --classes 0 1"),
    ],
)
def test_classes_that_are_not_detected(read, classes, wanted, message):
    (zone,) = read(f"zones: {{a: {{points: {SQUARE}, classes: {classes}}}}}").zones
    with pytest.raises(ConfigError) as caught:
        zone.class_ids(NAMES, wanted)
    assert str(caught.value).endswith(message) or message in str(caught.value)
    assert "zones.a.classes: " in str(caught.value)


def test_points_outside_of_the_image(read):
    (line,) = read("lines: {a: {points: [[0, 10], [64, 20]]}}").lines
    assert line.in_pixels((20, 64)).tolist() == [[0, 10], [64, 20]]  # its edges are inside
    for image_hw in ((19, 64), (20, 63)):
        with pytest.raises(ConfigError, match=r"lines\.a: the point \[64, 20\] is outside of the"):
            line.in_pixels(image_hw)


NUMBERS = st.integers(0, 6)
POINTS = st.tuples(NUMBERS, NUMBERS)


@given(POINTS, POINTS, POINTS, POINTS)
@settings(max_examples=300, deadline=None)
def test_segments_that_meet(a, b, c, d):
    """As exact fractions say, and in any order."""
    meets = segments_meet(a, b, c, d)
    for first, second in itertools.permutations([(a, b), (c, d)]):
        for p, q in ((first, second), (first[::-1], second)):
            assert segments_meet(*p, *q) == meets
    assert meets == (_least_distance(a, b, c, d) < 1e-9)


def _least_distance(a, b, c, d):
    """Between two segments: at their crossing, or at an end of one of them."""
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = a, b, c, d
    denominator = (bx - ax) * (dy - cy) - (by - ay) * (dx - cx)
    if denominator:
        s = ((cx - ax) * (dy - cy) - (cy - ay) * (dx - cx)) / denominator
        t = ((cx - ax) * (by - ay) - (cy - ay) * (bx - ax)) / denominator
        if 0 <= s <= 1 and 0 <= t <= 1:
            return 0.0
    ends = ((a, c, d), (b, c, d), (c, a, b), (d, a, b))
    return min(_distance_to_segment(*end) for end in ends)


def _distance_to_segment(point, start, end):
    length = math.dist(start, end)
    if not length:
        return math.dist(point, start)
    along = sum((p - s) * (e - s) for p, s, e in zip(point, start, end, strict=True)) / length**2
    along = min(max(along, 0), 1)
    nearest = [s + along * (e - s) for s, e in zip(start, end, strict=True)]
    return math.dist(point, nearest)


def test_right_and_left():
    """Seen from the start of a line that goes east, south is on the right."""
    assert distance_from_line((3, 4), (0, 0), (10, 0)) == 4
    assert distance_from_line((3, -4), (0, 0), (10, 0)) == -4
    assert distance_from_line((5, 3), (1, 1), (1, 9)) == -4
    assert cross_product((1, 0), (0, 1)) == 1
