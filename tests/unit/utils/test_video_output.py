from __future__ import annotations

import numpy as np
import pytest

from tests.video_builders import read_video
from utils.video_output import CODECS, VideoFile, working_codec


@pytest.mark.parametrize(
    ("image_hw", "written_hw"),
    [
        ((64, 96), (64, 96)),  # even
        ((65, 97), (66, 98)),  # odd: one more row and column, nothing is lost
        ((33, 50), (34, 50)),  # odd one way
    ],
)
def test_what_is_written_can_be_read(tmp_path, image_hw, written_hw):
    path = tmp_path / "v.mp4"
    with VideoFile(path, 12.5, image_hw) as video:
        for value in (20, 120, 220):
            video.write(np.full((*image_hw, 3), (value, 10, 10), np.uint8))
        assert not path.exists()  # appears when complete
    frames, fps = read_video(path)
    assert len(frames) == 3 and fps == pytest.approx(12.5)
    for frame, red in zip(frames, (20, 120, 220), strict=True):
        assert frame.shape[:2] == written_hw
        assert abs(float(frame[..., 2].mean()) - red) < 12  # BGR; codecs lose a little


def test_frames_of_another_size_are_resized(tmp_path):
    path = tmp_path / "v.mp4"
    with VideoFile(path, 10, (64, 64)) as video:
        for size in (64, 32, 100):
            video.write(np.zeros((size, size, 3), np.uint8))
    frames, _ = read_video(path)
    assert [frame.shape for frame in frames] == [(64, 64, 3)] * 3


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), VideoFile(tmp_path / "v.mp4", 10, (64, 64)) as video:
        video.write(np.zeros((64, 64, 3), np.uint8))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_looking_for_a_codec_is_silent(capfd):
    working_codec.cache_clear()
    assert working_codec() in CODECS
    assert capfd.readouterr() == ("", "")
