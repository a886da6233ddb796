from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from utils.detect import pipeline
from utils.detect.pipeline import StageClock
from utils.detect.run_log import DetectionLog, count_by_name
from utils.errors import DatasetError
from utils.structures import Detections, Frame, Skipped


@pytest.fixture
def clock(monkeypatch):
    """A clock whose every look at the time is one second after the last."""
    ticks = iter(range(1000))
    monkeypatch.setattr(pipeline.time, "perf_counter", lambda: float(next(ticks)))
    return StageClock(("read", "write"))


def test_stages_add_up(clock):
    for _ in range(3):
        with clock.stage("write"):
            pass
    assert clock.seconds == {"read": 0, "write": 3}
    assert clock.last == {"read": 0, "write": 1}
    assert clock.milliseconds_per(2) == {"read": 0, "write": 1500}
    assert clock.milliseconds_per(0) == {"read": 0, "write": 3000}


def test_getting_items_is_counted_using_them_is_not(clock):
    assert list(clock.each("read", "abc")) == ["a", "b", "c"]
    assert clock.seconds["read"] == 4  # three items and the end
    assert list(clock.each("write", [])) == []


def test_a_failing_stage_is_counted(clock):
    with pytest.raises(ValueError), clock.stage("read"):
        raise ValueError
    assert clock.seconds["read"] == 1


FOUND = Detections(np.zeros((3, 4), np.float32), np.ones(3, np.float32), np.array([1, 0, 1]))


def frame(index=None, position=1):
    """An image, or with `index` a frame of a video of 4."""
    is_video = index is not None
    image = np.zeros((8, 8, 3), np.uint8)
    count = 4 if is_video else 1
    return Frame(image, "in/a", Path("in/a"), position, 2, index or 1, count, None, is_video)


def test_frames_detections_and_skipped_files_are_counted(caplog):
    log = DetectionLog(("cat", "bus"), 1, strict=False)
    with caplog.at_level(logging.INFO):
        log.add(frame(), (32, 64), FOUND, 12.34)
        log.skip(Skipped(Path("b.jpg"), "empty"))
        log.add(frame(position=2), (32, 64), Detections.empty(), 1)
    result = log.result(Path("runs/exp"))
    assert (result.frames, result.detections, result.folder) == (2, 3, Path("runs/exp"))
    assert result.skipped == (Skipped(Path("b.jpg"), "empty"),)
    assert result.frames_per_second > 0
    assert caplog.messages == [
        "image 1/2 in/a: 32x64 1 cat, 2 buses, 12.3ms",
        "b.jpg: skipped: empty",
        "image 2/2 in/a: 32x64 (no detections), 1.0ms",
    ]


def test_a_strict_run_ends_at_an_unreadable_file():
    with pytest.raises(DatasetError, match=r"^b\.jpg: empty$"):
        DetectionLog(("cat",), 1, strict=True).skip(Skipped(Path("b.jpg"), "empty"))


def test_a_video_gets_its_first_and_last_line(caplog):
    log = DetectionLog(("cat", "bus"), 1, strict=False)
    with caplog.at_level(logging.INFO):
        for index in (1, 2, 3, 4):
            log.add(frame(index), (32, 64), FOUND, 1)
    assert [message.split(":")[0] for message in caplog.messages] == [
        "video 1/2 (1/4) in/a",
        "video 1/2 (4/4) in/a",
    ]
    assert log.result(Path()).frames == 4


@pytest.mark.parametrize(
    ("class_ids", "text"),
    [([], ""), ([0], "1 cat"), ([1, 0, 1], "1 cat, 2 buses"), ([2, 2], "2 dogs")],
)
def test_count_by_name(class_ids, text):
    assert count_by_name(np.array(class_ids, np.int64), ("cat", "bus", "dog")) == text


def test_the_summary_counts_one_of_each():
    log = DetectionLog(("cat", "bus"), 1, strict=False)
    log.add(frame(), (32, 64), FOUND[:1], 12.34)
    log.skip(Skipped(Path("b.jpg"), "empty"))
    assert log.result(Path()).as_text().startswith("1 frame, 1 detection, 1 file skipped\n")
    log.add(frame(), (32, 64), FOUND, 12.34)
    log.skip(Skipped(Path("c.jpg"), "empty"))
    assert log.result(Path()).as_text().startswith("2 frames, 4 detections, 2 files skipped\n")


def test_files_whose_kind_was_named_are_counted_without_a_line(caplog):
    log = DetectionLog(("cat",), 1, strict=False)
    log.skip(Skipped(Path("b.dng"), "no", is_said=True))
    assert caplog.messages == []
    assert [item["source"] for item in log.result(Path()).as_report()["skipped"]] == ["b.dng"]
