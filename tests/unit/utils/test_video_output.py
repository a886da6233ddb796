from __future__ import annotations

import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.video_builders import read_video
from utils.errors import OutputError
from utils.video_output import VideoFile

RATE = 16_000  # of test sounds, samples per second


def gray(value, image_hw=(64, 64)):
    return np.full((*image_hw, 3), value, np.uint8)


def frame_times(path):
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def loud_seconds(path):
    """The times at which a sound is loud, in steps of 0.05 s."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    rate = frames[0].sample_rate
    samples = np.concatenate([np.abs(frame.to_ndarray()).max(axis=0) for frame in frames])
    step = rate // 20
    levels = samples[: len(samples) // step * step].reshape(-1, step).mean(axis=1)
    return np.flatnonzero(levels > levels.max() / 2) / 20


def save_video_with_sound(path, seconds=2.0, codec="aac"):
    """A video of 10 frames/s; its sound is loud from 0.5 to 1.0 s."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.height = video.width = 64
        video.pix_fmt = "yuv420p"
        audio = container.add_stream(codec, rate=RATE)
        audio.layout = "mono"
        for _ in range(int(seconds * 10)):
            container.mux(video.encode(av.VideoFrame.from_ndarray(gray(90), format="rgb24")))
        container.mux(video.encode(None))
        times = np.arange(int(seconds * RATE)) / RATE
        loud = (times >= 0.5) & (times < 1.0)
        wave = (20_000 * loud * np.sin(2 * np.pi * 440 * times)).astype(np.int16)
        for start in range(0, len(wave), 1024):
            part = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], layout="mono")
            part.sample_rate, part.pts, part.time_base = RATE, start, Fraction(1, RATE)
            container.mux(audio.encode(part))
        container.mux(audio.encode(None))
    return path


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
    frames, fps = read_video(path)
    assert len(frames) == 3 and fps == pytest.approx(12.5)
    for frame, red in zip(frames, (20, 120, 220), strict=True):
        assert frame.shape[:2] == written_hw
        assert abs(float(frame[..., 2].mean()) - red) < 12  # BGR; codecs lose a little


def test_browsers_play_it(tmp_path):
    path = tmp_path / "v.mp4"
    with VideoFile(path, 10, (64, 64)) as video:
        video.write(gray(90))
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")


def test_frames_of_another_size_are_resized(tmp_path):
    path = tmp_path / "v.mp4"
    with VideoFile(path, 10, (64, 64)) as video:
        for size in (64, 32, 100):
            video.write(np.zeros((size, size, 3), np.uint8))
    frames, _ = read_video(path)
    assert [frame.shape for frame in frames] == [(64, 64, 3)] * 3


def test_frames_are_shown_when_they_were_taken(tmp_path):
    """A varying rate stays; two frames of one time, or of no time, follow each other."""
    path = tmp_path / "v.mp4"
    with VideoFile(path, 10, (64, 64)) as video:
        for seconds in (0.0, 0.04, 0.5, 0.5, None, 2.0):
            video.write(gray(90), seconds)
    assert frame_times(path) == pytest.approx([0.0, 0.04, 0.5, 0.5, 0.6, 2.0], abs=1e-4)


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "aac"), (".mkv", "pcm_s16le")])
def test_sound_is_kept(tmp_path, suffix, codec):
    source = save_video_with_sound(tmp_path / f"s{suffix}", codec=codec)
    with VideoFile(tmp_path / "v.mp4", 10, (64, 64), sound=source) as video:
        for step in range(20):
            video.write(gray(90), step / 10)
    expected, found = loud_seconds(source), loud_seconds(tmp_path / "v.mp4")
    assert expected[0] == pytest.approx(0.5, abs=0.11)
    assert found[[0, -1]] == pytest.approx(expected[[0, -1]], abs=0.11)  # AAC's own delay


@pytest.mark.parametrize("content", [b"no video", None])
def test_sound_that_cannot_be_read_is_left_out(tmp_path, content, caplog):
    source = tmp_path / "s.mp4"
    if content is not None:
        source.write_bytes(content)
    with VideoFile(tmp_path / "v.mp4", 10, (64, 64), sound=source) as video:
        video.write(gray(90))
    assert "its sound is omitted" in caplog.text
    assert len(frame_times(tmp_path / "v.mp4")) == 1


def test_an_error_leaves_the_frames_so_far(tmp_path):
    path = tmp_path / "v.mp4"
    with pytest.raises(RuntimeError), VideoFile(path, 10, (64, 64)) as video:
        for value in (20, 120):
            video.write(gray(value))
        raise RuntimeError
    assert len(frame_times(path)) == 2


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from utils.video_output import VideoFile
with VideoFile(Path(sys.argv[1]), 25, (64, 64)) as video:
    for step in range(100):
        video.write(np.full((64, 64, 3), 2 * step, np.uint8), step / 25)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_a_video_that_plays(tmp_path):
    path = tmp_path / "v.mp4"
    root = Path(__file__).parents[3]
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=root, check=False)
    assert ended.returncode == -signal.SIGKILL
    times = frame_times(path)
    assert 75 <= len(times) < 100  # at most a second is lost
    assert times == pytest.approx(np.arange(len(times)) / 25, abs=1e-4)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk(tmp_path):
    (tmp_path / "v.mp4").symlink_to("/dev/full")
    with (
        pytest.raises(OutputError, match="No space left on device"),
        VideoFile(tmp_path / "v.mp4", 10, (64, 64)) as video,
    ):
        for value in range(100):
            video.write(gray(value))


def test_without_pyav_opencv_writes(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "av", None)
    path = tmp_path / "v.mp4"
    with VideoFile(path, 10, (65, 64)) as video:
        for value in (20, 120, 220):
            video.write(gray(value, (65, 64)))
    assert "pip install av" in caplog.text
    frames, fps = read_video(path)
    assert len(frames) == 3 and fps == pytest.approx(10) and frames[0].shape == (66, 64, 3)
