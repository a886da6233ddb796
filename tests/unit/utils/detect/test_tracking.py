"""Objects whose identity is known, followed through made-up detections."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from utils.detect.pipeline import Found, StageClock
from utils.detect.run_log import tracks_text
from utils.detect.tracking import (
    LOST_SECONDS,
    LOW_SCORE,
    ObjectTracker,
    VideoTracker,
    rules_for_tracking,
)
from utils.detect.zones import read_zones
from utils.errors import ConfigError, MissingPackageError
from utils.postprocess import PostprocessConfig
from utils.structures import NO_TRACK, Detections, Frame, Skipped

RULES = PostprocessConfig(score_threshold=0.25)
FPS = 25.0


@pytest.fixture
def library():
    return pytest.importorskip("trackers", reason="trackers is not installed")


def boxes_at(*objects, size=40):
    """Detections of objects (x, y, score, class) around their centres."""
    table = np.array(objects, np.float32).reshape(-1, 4)
    centers, half = table[:, :2], size / 2
    return Detections(
        np.concatenate([centers - half, centers + half], axis=1),
        table[:, 2], table[:, 3].astype(np.int64),
    )  # fmt: skip


def follow(frames, fps=FPS, threshold=0.25, **kwargs):
    """The ids of each frame's detections; a frame is (seconds, detections)."""
    tracker = VideoTracker(threshold, fps, **kwargs)
    return [tracker.follow(found, seconds).track_ids.tolist() for seconds, found in frames]


def moving(count, *ways, fps=FPS):
    """Frames of objects (x, y, speed x, speed y, class), speeds in pixels per frame."""
    return [
        (n / fps, boxes_at(*((x + n * u, y + n * v, 0.9, kind) for x, y, u, v, kind in ways)))
        for n in range(count)
    ]


def test_ids_begin_with_the_second_frame_and_last(library):
    ids = follow(moving(30, (100, 100, 5, 0, 0), (400, 300, -5, 2, 0)))
    assert ids[0] == [NO_TRACK, NO_TRACK]
    assert ids[1:] == [[1, 2]] * 29


def test_crossing_objects_keep_their_ids(library):
    """Two that pass each other, half hidden by one another in the middle."""
    frames = moving(60, (100, 100, 6, 0, 0), (460, 120, -6, 0, 0))
    ids = follow(frames)
    assert ids[1:] == [[1, 2]] * 59


@pytest.mark.parametrize(("gap", "same"), [(3, True), (20, True), (40, False)])
def test_a_gap(library, gap, same):
    """Behind something for a few frames; after more than LOST_SECONDS it is another object."""
    frames = moving(70, (100, 100, 2, 0, 0))
    frames[10 : 10 + gap] = [(seconds, boxes_at()) for seconds, _ in frames[10 : 10 + gap]]
    ids = follow(frames)
    assert (ids[-1] == [1]) == same == (gap / FPS < LOST_SECONDS)
    assert ids[10] == []


def test_one_leaves_and_another_comes(library):
    both = moving(20, (100, 100, 5, 0, 0), (300, 300, 0, 0, 0))
    gone = [(seconds + 20 / FPS, boxes_at((300, 300, 0.9, 0))) for seconds, _ in both]
    come = [(seconds + 2, boxes_at((300, 300, 0.9, 0), (100, 100, 0.9, 0))) for seconds, _ in both]
    ids = follow([*both, *gone, *come])
    assert ids[19] == [1, 2] and ids[39] == [2] and ids[59] == [2, 3]


def test_a_low_score_continues_a_track_and_is_not_shown(library):
    """Without the low box the object, which turned, is not where it is expected."""
    frames = moving(10, (100, 100, 8, 0, 0))
    hidden = [(seconds + 10 / FPS, boxes_at((180 - 8 * n, 100, 0.15, 0)))
              for n, (seconds, _) in enumerate(frames)]  # fmt: skip
    after = [(20 / FPS, boxes_at((92, 100, 0.9, 0)))]
    with_low = follow([*frames, *hidden, *after])
    assert with_low[10:20] == [[]] * 10
    assert with_low[-1] == [1]
    without = [(seconds, found[found.scores > 0.25]) for seconds, found in hidden]
    assert follow([*frames, *without, *after])[-1] == [NO_TRACK]


def test_a_low_score_begins_nothing(library):
    frames = [(n / FPS, boxes_at((100, 100, 0.2, 0))) for n in range(5)]
    frames.append((5 / FPS, boxes_at((100, 100, 0.9, 0))))
    assert follow(frames)[-1] == [NO_TRACK]


def test_what_is_shown_does_not_depend_on_tracking(library):
    """The boxes, scores, classes and order of a run without it."""
    rng = np.random.default_rng(0)
    tracker = VideoTracker(0.25, FPS)
    for n in range(40):
        found = boxes_at(*(rng.uniform([0, 0, 0.1, 0], [500, 500, 1, 3]) for _ in range(20)))
        shown = tracker.follow(found, n / FPS)
        expected = found[found.scores > 0.25]
        for name in ("boxes", "scores", "class_ids"):
            assert (getattr(shown, name) == getattr(expected, name)).all()


@pytest.mark.parametrize("class_agnostic", [True, False])
def test_ids_are_the_librarys(library, class_agnostic):
    """As it gives them when it is fed directly, each class by itself or all together."""
    supervision = pytest.importorskip("supervision")
    rng = np.random.default_rng(1)
    starts, speeds = rng.uniform(50, 950, (12, 2)), rng.uniform(-6, 6, (12, 2))
    kinds = np.arange(12) % 3
    theirs, pairs, ours = {}, set(), VideoTracker(0.25, FPS, class_agnostic=class_agnostic)
    for n in range(60):
        scores = rng.uniform(0.1, 1, 12)
        seen = np.flatnonzero(rng.uniform(size=12) > 0.2)
        found = boxes_at(*((*(starts[i] + n * speeds[i]), scores[i], kinds[i]) for i in seen))
        expected = np.full(len(found), -1)
        for group in range(1 if class_agnostic else 3):
            rows = np.arange(len(found)) if class_agnostic else np.flatnonzero(kinds[seen] == group)
            if group not in theirs:
                theirs[group] = library.ByteTrackTracker(
                    frame_rate=FPS, track_activation_threshold=0.25, high_conf_det_threshold=0.25,
                    minimum_iou_threshold=0.3,
                )  # fmt: skip
            given = supervision.Detections(
                found.boxes[rows], confidence=found.scores[rows], data={"row": rows}
            )
            result = theirs[group].update(given, timestamp=(n + 1) / FPS)
            ids = result.tracker_id + np.where(result.tracker_id < 0, 0, 1000 * group)
            expected[result.data["row"]] = ids
        shown = ours.follow(found, n / FPS).track_ids
        expected = expected[found.scores > 0.25]
        assert ((shown == NO_TRACK) == (expected < 0)).all()
        pairs |= set(zip(shown.tolist(), expected.tolist(), strict=True))
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs) > 12
    if class_agnostic:
        assert all(a == b + 1 for a, b in pairs if a != NO_TRACK)


def test_classes_are_followed_by_themselves_unless_told_otherwise(library):
    """A van that is called a car and a truck in turn."""
    frames = [(n / FPS, boxes_at((100 + 2 * n, 100, 0.9, n % 2))) for n in range(10)]
    assert follow(frames, class_agnostic=True)[-2:] == [[1], [1]]
    ids = follow(frames)
    assert ids[-2:] != [[1], [1]]
    assert not {*ids[-1]} & {*ids[-2]} - {NO_TRACK}


@pytest.mark.parametrize(
    ("shown", "seconds"),
    [
        (lambda n: n / FPS, lambda n: n / FPS),
        (lambda n: 5 * n / FPS, lambda n: 5 * n / FPS),  # --vid-stride 5
        (lambda n: (n + n % 3 / 3) / FPS, lambda n: (n + n % 3 / 3) / FPS),  # a variable rate
        (lambda n: n / FPS + (n > 10) * 0.6, lambda n: n / FPS + (n > 10) * 0.6),  # frames dropped
        (lambda n: n / FPS - (n > 10) * 3600, lambda n: n / FPS),  # a clock that was set back
        (lambda n: 7.0, lambda n: n / FPS),  # ... that stands still
    ],
)
def test_any_clock(library, shown, seconds):
    """An object of 40 px that moves by 50 px a second."""
    frames = [(shown(n), boxes_at((100 + 50 * seconds(n), 100, 0.9, 0))) for n in range(30)]
    assert follow(frames)[1:] == [[1]] * 29


def test_an_unknown_frame_rate_and_empty_frames(library):
    assert follow([(0.0, boxes_at()), (0.0, boxes_at())], fps=None) == [[], []]
    degenerate = Detections(
        np.array([[5, 5, 5, 5], [0, 0, 9, 0]], np.float32), np.array([0.9, 0.8], np.float32),
        np.zeros(2, np.int64),
    )  # fmt: skip
    assert len(follow([(n / FPS, degenerate) for n in range(4)])[-1]) == 2
    broken = boxes_at((100, 100, 0.9, 0), (300, 300, 0.8, 0))
    broken.boxes[1, 2] = np.nan
    assert follow([(n / FPS, broken) for n in range(3)])[-1] == [1, NO_TRACK]


def frame(position=1, index=1, *, is_live=False, path="v.mp4", fps=FPS, **changes):
    made = Frame(
        np.zeros((200, 300, 3), np.uint8), path, Path(path), position, 9, index, None, fps,
        fps is not None, (index - 1) / (fps or 1), 1e9 + index if is_live else None,
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def run(tracker, *frames):
    """Ids of each frame, in which the same object is."""
    clock = StageClock(("track",))
    found = [Found(n, each, (64, 64), boxes_at((100, 100, 0.9, 0), (200, 100, 0.2, 0)), 1.0)
             for n, each in enumerate(frames)]  # fmt: skip
    return [each.detections.track_ids for each in tracker.followed(found, clock)]


def test_each_video_begins_anew(library):
    tracker = ObjectTracker(RULES, ["cat"])
    frames = [frame(position, index, path=f"{position}.mp4")
              for position in (1, 2) for index in (1, 2, 3)]  # fmt: skip
    ids = [each.tolist() for each in run(tracker, *frames)]
    assert ids == [[NO_TRACK], [1], [1], [NO_TRACK], [1], [1]]
    assert [(each.source, each.num_ids) for each in tracker.tracks] == [("1.mp4", 1), ("2.mp4", 1)]
    assert tracks_text(tracker.tracks) == "1.mp4: 1 ids\n2.mp4: 1 ids\n"


def test_streams_are_followed_side_by_side(library):
    tracker = ObjectTracker(RULES, ["cat"])
    frames = [frame(position, index, is_live=True) for index in (1, 2, 3) for position in (1, 2)]
    assert [each.tolist() for each in run(tracker, *frames)] == [[NO_TRACK]] * 2 + [[1]] * 4


def test_a_video_behind_an_address_is_timed_by_its_frames(library):
    """It is read at any speed: two frames an hour apart are still two frames of a video."""
    tracker = ObjectTracker(RULES, ["cat"])
    frames = [frame(1, n, is_live=True, frame_count=99, seconds=3600.0 * n) for n in (1, 2, 3)]
    assert [each.tolist() for each in run(tracker, *frames)] == [[NO_TRACK], [1], [1]]


def test_images_have_no_ids_and_no_low_scores(library, caplog):
    tracker = ObjectTracker(RULES, ["cat"])
    images = [frame(n, fps=None, path=f"{n}.jpg") for n in (1, 2)]
    (page,) = [frame(3, fps=None, path="pages.tif", is_video=True)]
    clock = StageClock(("track",))
    found = [Found(n, each, (64, 64), boxes_at((100, 100, 0.9, 0), (200, 100, 0.2, 0)), 1.0)
             for n, each in enumerate([*images, page])]  # fmt: skip
    skipped = Skipped(Path("broken.jpg"), "broken")
    results = list(tracker.followed([*found, skipped], clock))
    assert results.pop() is skipped
    assert [each.detections.track_ids for each in results] == [None] * 3
    assert [len(each.detections) for each in results] == [1] * 3
    (message,) = caplog.messages  # said once
    assert message.startswith("1.jpg: an image by itself has no ids")
    assert tracker.tracks == ()


ZONES = "zones: {room: {points: [[0, 0], [250, 0], [250, 150], [0, 150]], classes: [cat]}}"


def test_zones_of_videos_that_they_do_not_fit(library, tmp_path, caplog):
    """The first one is a mistake; a later one of a longer run is noted."""
    (tmp_path / "zones.yaml").write_text(ZONES)
    zones = read_zones(tmp_path / "zones.yaml")
    small = np.zeros((100, 100, 3), np.uint8)
    with pytest.raises(ConfigError, match="is outside of the image, which is 100 x 100"):
        run(ObjectTracker(RULES, ["cat"], zones), frame(1, image=small))
    tracker = ObjectTracker(RULES, ["cat"], zones)
    run(tracker, frame(1), frame(1, 2), frame(2, image=small), frame(2, 2, image=small))
    first, second = tracker.tracks
    assert first.as_report() == {
        "source": "v.mp4", "ids": 1, "lines": {}, "zones": {"room": {"now": 1, "total": 1}},
    }  # fmt: skip
    assert second.as_report() == {"source": "v.mp4", "ids": 1}
    assert any("nothing is counted in it" in message for message in caplog.messages)
    with pytest.raises(ConfigError, match="no class is called 'cat'"):
        ObjectTracker(RULES, ["dog"], zones)


def test_a_stream_that_comes_back_with_another_size(library, tmp_path, caplog):
    (tmp_path / "zones.yaml").write_text(ZONES)
    tracker = ObjectTracker(RULES, ["cat"], read_zones(tmp_path / "zones.yaml"))
    small = np.zeros((100, 100, 3), np.uint8)
    run(tracker, *(frame(1, n, is_live=True) for n in (1, 2)),
        *(frame(1, n, is_live=True, image=small) for n in (3, 4)))  # fmt: skip
    assert [message.partition(" in it")[0] for message in caplog.messages] == [
        "v.mp4: nothing more is counted"
    ]


def test_memory_is_flat(library):
    """Of objects that have ended nothing stays."""
    tracker = VideoTracker(0.25, FPS)
    for n in range(400):  # a new object every ten frames
        tracker.follow(boxes_at((50 + 100 * (n // 10 % 5), 100, 0.9, 0)), n / FPS)
    assert len(tracker.alive) <= 5 and len(tracker._ids) == len(tracker.alive)


def test_rules():
    assert rules_for_tracking(RULES).score_threshold == LOW_SCORE
    low = PostprocessConfig(score_threshold=0.05)
    assert rules_for_tracking(low) == low


@pytest.mark.parametrize("package", ["trackers", "supervision"])
def test_a_missing_package_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError) as caught:
        ObjectTracker(RULES, ["cat"])
    message = "--track needs trackers: pip install -r requirements-track.txt ("
    assert str(caught.value).startswith(message) and package in str(caught.value)
