"""Laws of counting: once in, once out, no jitter, distinct objects."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.detect.zone_counts import MARGIN, ZoneCounter
from utils.detect.zones import Shape, ZonesFile, read_zones
from utils.errors import ConfigError
from utils.structures import NO_TRACK, Detections

NAMES = ("person", "car")
IMAGE_HW = (200, 200)
SIZE = 20  # of boxes: they jitter by MARGIN * SIZE at most
# Goes down: the right side, where tracks come in, is on the left of the image.
LINE = "lines: {door: {points: [[100, 50], [100, 150]]}}"
ZONE = "zones: {room: {points: [[50, 50], [150, 50], [150, 150], [50, 150]]}}"


@pytest.fixture
def counter(tmp_path):
    def make(text: str, wanted=None) -> ZoneCounter:
        path = tmp_path / "zones.yaml"
        path.write_text(text)
        return ZoneCounter(read_zones(path), IMAGE_HW, NAMES, wanted)

    return make


def at(*tracks, class_id=0):
    """Detections whose lower edges have their middles at (id, x, y)."""
    points = np.array([track[1:] for track in tracks], np.float32).reshape(-1, 2)
    corners = np.array([-SIZE / 2, -SIZE, SIZE / 2, 0], np.float32)
    boxes = np.tile(points, 2) + corners
    count = len(tracks)
    return Detections(
        boxes, np.ones(count, np.float32), np.full(count, class_id),
        np.array([track[0] for track in tracks], np.int64),
    )  # fmt: skip


def line_counts(counter, path, **kwargs):
    """(in, out) after one track has gone this way; None is a frame without it."""
    counts = None
    for point in path:
        found = at((7, *point), **kwargs) if point else at()
        counts = counter.count(found, alive={7})
    return counts.lines[0].went_in, counts.lines[0].went_out


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ([(150, 100), (120, 100), (80, 100), (50, 100)], (1, 0)),  # from left to right: in
        ([(50, 100), (80, 100), (120, 100)], (0, 1)),  # back
        ([(150, 100), (50, 100), (150, 100), (50, 100)], (2, 1)),  # each way counts
        ([(150, 100)], (0, 0)),
        ([(150, 100), (110, 100), (150, 100)], (0, 0)),  # did not cross
        ([(150, 100), (99, 100), (101, 100), (150, 100)], (0, 0)),  # touched it and went back
        ([(150, 100), (99, 100), (101, 100), (99, 100), (50, 100)], (1, 0)),  # hesitated
        ([(150, 100), None, None, None, (50, 100)], (1, 0)),  # behind something
        ([(150, 40), (50, 40)], (0, 0)),  # beyond its end
        ([(150, 160), (50, 160)], (0, 0)),  # ... and the other one
        ([(150, 100), (150, 40), (50, 40), (50, 100)], (0, 0)),  # around its end
        ([(150, 100), (150, 40), (50, 40), (50, 100), (150, 100)], (0, 1)),  # ... and through
        ([(150, 30), (50, 70)], (1, 0)),  # passes it at (100, 50), its very end
        ([(101, 100), (50, 100)], (0, 0)),  # first seen on the line
        ([(100, 100), (100, 100)], (0, 0)),  # stands on it
        ([(150, 100), (100, 100), (50, 100)], (1, 0)),  # a frame exactly on it
        ([(50, 100), (100, 100), (150, 100)], (0, 1)),
    ],
)
def test_paths(counter, path, counts):
    assert line_counts(counter(LINE), path) == counts


def one_line(start, end):
    """A counter without a file."""
    file = ZonesFile(Path(), "", (Shape("door", "zones.yaml", (start, end), False),), ())
    return ZoneCounter(file, IMAGE_HW, NAMES)


@given(st.lists(st.floats(-MARGIN * SIZE, MARGIN * SIZE), max_size=30), st.booleans())
@settings(max_examples=100, deadline=None)
def test_jitter_on_the_line_counts_once_or_never(jitter, crosses):
    way = [(150, 100), *((100 + each, 100) for each in jitter), (50 if crosses else 150, 100)]
    assert line_counts(one_line((100, 50), (100, 150)), way) == (int(crosses), 0)


@given(st.lists(st.tuples(st.integers(0, 199), st.integers(0, 199)), min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_a_line_across_the_image_counts_every_change_of_sides(path):
    """No way leads around it: what went in has to go out before it goes in again."""
    sides = [np.sign(100 - x) for x, _ in path if abs(x - 100) > MARGIN * SIZE]
    changes = [after for before, after in itertools.pairwise(sides) if before != after]
    counts = line_counts(one_line((100, 0), (100, 200)), path)
    assert counts == (changes.count(1), changes.count(-1))


def test_a_line_the_other_way_swaps_in_and_out(counter):
    path = [(150, 100), (50, 100), (150, 100), (50, 100)]
    turned = "lines: {door: {points: [[100, 150], [100, 50]]}}"
    assert line_counts(counter(turned), path) == line_counts(counter(LINE), path)[::-1]


def test_margin_grows_with_the_box(counter):
    """A box of 20 px that moves by 3 px has crossed; one of 80 px has not."""
    for size, counts in ((20, (1, 0)), (80, (0, 0))):
        door = counter(LINE)
        for x in (103, 97):
            box = np.array([[x - size / 2, 100 - size, x + size / 2, 100]], np.float32)
            found = dataclasses.replace(at((1, x, 100)), boxes=box)
            (line,) = door.count(found, alive={1}).lines
        assert (line.went_in, line.went_out) == counts


def test_zone_counts_distinct_tracks(counter):
    room = counter(ZONE)
    frames = [
        (at((1, 100, 100), (2, 10, 10)), (1, 1)),
        (at((1, 100, 101), (2, 60, 60)), (2, 2)),
        (at((1, 160, 100), (2, 60, 61)), (1, 2)),  # 1 went out
        (at((1, 140, 100)), (1, 2)),  # came back: the same one; 2 is not found
        (at((3, 50, 150)), (1, 3)),  # on a corner
        (at((NO_TRACK, 100, 100)), (0, 3)),  # has no id yet
        (at(), (0, 3)),
    ]
    for found, (now, total) in frames:
        (zone,) = room.count(found, alive={1, 2, 3}).zones
        assert (zone.now, zone.total) == (now, total)


def test_tracks_that_have_ended_are_forgotten(counter):
    """Memory stays flat on a camera that runs for years; ids are not used twice."""
    both = counter(f"{LINE}\n{ZONE}")
    for number in range(1, 500):
        counts = both.count(at((number, 100, 100)), alive={number})
    assert counts.zones[0].total == 499
    assert len(both._tracks) == 1


@pytest.mark.parametrize(
    ("classes", "counts"),
    [("", (1, 0)), (", classes: [person]", (1, 0)), (", classes: [1]", (0, 0))],
)
def test_only_the_classes_that_are_named(counter, classes, counts):
    line = LINE.replace("]]}", f"]]{classes}}}")
    assert line_counts(counter(line), [(150, 100), (50, 100)]) == counts


def test_a_track_has_the_class_of_most_of_its_frames(counter):
    """A person that is called a car while it crosses."""
    door = counter(LINE.replace("]]}", "]], classes: [person]}"))
    for x in (150, 140, 130):
        door.count(at((1, x, 100)), alive={1})
    counts = door.count(at((1, 50, 100), class_id=1), alive={1})
    assert counts.lines[0].went_in == 1


def test_center_and_bottom(counter):
    """The lower edge is in the zone, the centre is above it."""
    found = at((1, 100, 55))
    (bottom,) = counter(ZONE).count(found, alive={1}).zones
    (center,) = counter(ZONE.replace("]]}", "]], anchor: center}")).count(found, alive={1}).zones
    assert (bottom.now, center.now) == (1, 0)


@pytest.mark.parametrize("corner", ["[199, 199]", "[200, 200]"])
def test_a_box_cut_off_at_the_bottom_is_in_a_zone_that_reaches_there(counter, corner):
    room = counter(f"zones: {{all: {{points: [[0, 0], [199, 0], {corner}, [0, 199]]}}}}")
    (zone,) = room.count(at((1, 100, 200)), alive={1}).zones
    assert zone.now == 1


def test_json_and_text(counter):
    both = counter(f"{LINE}\n{ZONE}")
    both.count(at((1, 140, 100)), alive={1})
    counts = both.count(at((1, 60, 100)), alive={1})
    assert counts.as_json() == {
        "lines": {"door": {"in": 1, "out": 0}},
        "zones": {"room": {"now": 1, "total": 1}},
    }
    assert counts.as_text() == "door: 1 in, 0 out; room: 1 now, 1 in all"


def test_images_of_another_size(counter):
    """A camera that comes back with half the resolution: fractions fit, counts go on."""
    halves = counter("lines: {door: {points: [[0.5, 0], [0.5, 1]]}}\n"
                     "zones: {right: {points: [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]}}")  # fmt: skip
    for x in (150, 50):
        halves.count(at((1, x, 100)), alive={1})
    halves.fit((100, 100))
    counts = halves.count(at((1, 30, 50), (2, 60, 50)), alive={1, 2})
    assert counts.as_text() == "door: 1 in, 0 out; right: 1 now, 2 in all"
    counts = halves.count(at((2, 40, 50)), alive={1, 2})
    assert counts.lines[0].went_in == 2
    in_pixels = counter(ZONE)
    with pytest.raises(ConfigError, match="which is 100 x 100 pixels"):
        in_pixels.fit((100, 100))


def test_nothing_is_counted_without_ids(counter):
    found = at((1, 100, 100))
    without = Detections(found.boxes, found.scores, found.class_ids)
    (zone,) = counter(ZONE).count(without, alive=()).zones
    assert (zone.now, zone.total) == (0, 0)


def test_shapes_are_checked_against_the_image(counter):
    with pytest.raises(ConfigError, match=r"zones\.room: the point \[150, 250\] is outside"):
        counter(ZONE.replace("150, 150", "150, 250"))


@pytest.mark.parametrize("seed", range(5))
def test_counts_equal_supervisions_on_ways_straight_through(counter, seed):
    """Of boxes of 2 px, whose corners and lower middle cross a line at nearly the same time."""
    supervision = pytest.importorskip("supervision", reason="trackers is not installed")
    rng = np.random.default_rng(seed)
    line = counter("lines: {all: {points: [[100, 0], [100, 200]]}}")
    theirs = supervision.LineZone(supervision.Point(100, 0), supervision.Point(100, 200))
    ids = np.arange(1, 21)
    starts, ends = (
        np.stack([100 + rng.choice([-1, 1], 20) * rng.uniform(5, 90, 20),
                  rng.uniform(5, 195, 20)], axis=1) for _ in range(2)
    )  # fmt: skip
    for step in np.linspace(0, 1, 30):
        centers = starts + step * (ends - starts)
        boxes = np.concatenate([centers - 1, centers + 1], axis=1).astype(np.float32)
        found = Detections(boxes, np.ones(20, np.float32), np.zeros(20, np.int64), ids)
        counts = line.count(found, alive=ids.tolist())
        theirs.trigger(supervision.Detections(xyxy=boxes, tracker_id=ids))
    # What they call in goes to the left of the line.
    ours = counts.lines[0].went_out, counts.lines[0].went_in
    assert ours == (theirs.in_count, theirs.out_count)
    assert min(ours) > 0
