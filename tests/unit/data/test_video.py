from __future__ import annotations

import cv2
import numpy as np
import pytest

from data import video
from tests.error_messages import assert_message
from tests.unit.data.test_sources import opened
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
    frames = list(opened(str(path), stride))
    assert [frame.frame_index for frame in frames] == indices
    for frame in frames:
        assert abs(float(frame.image.mean()) - 10 * frame.frame_index) < 5
        assert (frame.frame_count, frame.is_video, frame.position) == (7, True, 1)
        assert frame.fps == pytest.approx(fps)


def test_the_only_video_must_be_readable(tmp_path):
    path = tmp_path / "v.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(DatasetError) as error:
        list(opened(str(path)))
    assert_message(str(error.value), f"{path}: ", "not a video")


def test_one_unreadable_video_of_several_is_skipped(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    save_video(tmp_path / "b.mp4", 2)
    bad, *good = opened(str(tmp_path))
    assert isinstance(bad, Skipped) and bad.path == tmp_path / "a.mp4"
    assert "not a video" in bad.reason
    assert [frame.frame_index for frame in good] == [1, 2]


class FakeCapture:
    """A capture that gives `frames` images and claims `count`."""

    def __init__(self, frames: int, count: int) -> None:
        self.left, self.count = frames, count

    def get(self, key):
        known = {cv2.CAP_PROP_FPS: 25.0, cv2.CAP_PROP_FRAME_COUNT: float(self.count)}
        return known.get(key, 0.0)

    def grab(self):
        self.left -= 1
        return self.left >= 0

    def retrieve(self):
        return True, np.zeros((8, 8, 3), np.uint8)

    def release(self):
        pass


def test_a_video_that_breaks_off_is_reported(tmp_path, monkeypatch):
    path = tmp_path / "v.mp4"
    path.touch()
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda _: FakeCapture(frames=4, count=100))
    *frames, cut = opened(str(path))
    assert len(frames) == 4 and all(isinstance(frame, Frame) for frame in frames)
    assert cut == Skipped(path, "broken after frame 4 of 100; the rest is omitted")


def test_frames_have_the_times_of_the_file(tmp_path):
    path = save_video(tmp_path / "v.mp4", 7)
    for stride in (1, 3):
        for frame in opened(str(path), stride):
            assert frame.seconds == pytest.approx((frame.frame_index - 1) / 10)
            assert not frame.is_live


def test_frames_without_times_follow_each_other(tmp_path, monkeypatch):
    path = tmp_path / "v.mp4"
    path.touch()
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda _: FakeCapture(frames=4, count=4))
    assert [frame.seconds for frame in opened(str(path))] == pytest.approx([0, 0.04, 0.08, 0.12])


def test_an_estimated_frame_count_is_no_news(tmp_path, monkeypatch, caplog):
    path = tmp_path / "v.mp4"
    path.touch()
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda _: FakeCapture(frames=98, count=100))
    assert len(list(opened(str(path)))) == 98
    assert caplog.messages == []
