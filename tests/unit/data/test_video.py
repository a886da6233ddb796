from __future__ import annotations

import logging

import cv2
import numpy as np
import pytest

from data import video
from data.sources import open_source
from data.video import read_stream, without_password
from tests.error_messages import assert_message
from tests.video_builders import save_video
from utils.errors import DatasetError
from utils.structures import Frame, Skipped


@pytest.mark.parametrize(
    ("stride", "indices", "fps"),
    [
        (1, [1, 2, 3, 4, 5, 6, 7], 10.0),  # every frame
        (3, [1, 4, 7], 10 / 3),  # every third; played back at the same speed
        (9, [1], 10 / 9),  # a stride longer than the video
    ],
)
def test_frames_and_stride(tmp_path, stride, indices, fps):
    path = save_video(tmp_path / "v.mp4", 7)
    frames = list(open_source(str(path), stride))
    assert [frame.frame_index for frame in frames] == indices
    for frame in frames:
        assert abs(float(frame.image.mean()) - 10 * frame.frame_index) < 5
        assert (frame.frame_count, frame.is_video, frame.position) == (7, True, 1)
        assert frame.fps == pytest.approx(fps)


def test_the_only_video_must_be_readable(tmp_path):
    path = tmp_path / "v.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(DatasetError) as error:
        list(open_source(str(path)))
    assert_message(str(error.value), f"{path}: ", "not a video")


def test_one_unreadable_video_of_several_is_skipped(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    save_video(tmp_path / "b.mp4", 2)
    bad, *good = open_source(str(tmp_path))
    assert isinstance(bad, Skipped) and bad.path == tmp_path / "a.mp4"
    assert "not a video" in bad.reason
    assert [frame.frame_index for frame in good] == [1, 2]


class FakeCapture:
    """A capture that gives `frames` images and claims `count`."""

    def __init__(self, frames: int, count: int) -> None:
        self.left, self.count = frames, count

    def get(self, key):
        return {cv2.CAP_PROP_FPS: 25.0, cv2.CAP_PROP_FRAME_COUNT: float(self.count)}[key]

    def grab(self):
        self.left -= 1
        return self.left >= 0

    def retrieve(self):
        return True, np.zeros((8, 8, 3), np.uint8)

    def release(self):
        pass


def test_a_video_that_breaks_off_warns(tmp_path, monkeypatch, caplog):
    path = tmp_path / "v.mp4"
    path.touch()
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda _: FakeCapture(frames=4, count=100))
    with caplog.at_level(logging.WARNING):
        frames = list(open_source(str(path)))
    assert len(frames) == 4 and all(isinstance(frame, Frame) for frame in frames)
    assert caplog.messages == [f"{path}: broken after frame 4 of 100; the rest is skipped"]


def test_an_estimated_frame_count_is_no_news(tmp_path, monkeypatch, caplog):
    path = tmp_path / "v.mp4"
    path.touch()
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda _: FakeCapture(frames=98, count=100))
    assert len(list(open_source(str(path)))) == 98
    assert caplog.messages == []


def test_a_lost_stream_is_opened_again(monkeypatch, caplog):
    captures = [FakeCapture(2, 0), FakeCapture(1, 0), *[FakeCapture(0, 0)] * 4]
    waits: list[float] = []
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda _: captures.pop(0))
    monkeypatch.setattr(video.time, "sleep", waits.append)
    seen = [index for _, index, _ in read_stream("rtsp://me:secret@host/1", 1)]
    assert seen == [1, 2, 3]
    assert waits == [1, 1, 2, 4, 8]  # the first loss is repaired at once, the second never
    assert caplog.messages[-1] == "rtsp://host/1: gave up after 3 frames"
    assert "secret" not in caplog.text


def test_a_stream_that_never_opens(monkeypatch):
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda _: FakeCapture(0, 0))
    with pytest.raises(DatasetError) as error:
        list(open_source("rtsp://me:secret@host/1"))
    assert_message(str(error.value), "--source rtsp://host/1: ", "opened")


def test_stream_frames_have_a_file_name(monkeypatch):
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda _: FakeCapture(1, 1))
    (frame,) = open_source("http://host/cam?x=1")
    assert (frame.path.name, frame.source) == ("http_host_cam_x_1", "http://host/cam?x=1")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://user:secret@host/1", "rtsp://host/1"),
        ("http://host/a@b", "http://host/a@b"),  # an @ in the path is no password
        ("0", "0"),
    ],
)
def test_passwords_are_not_shown(address, shown):
    assert without_password(address) == shown
