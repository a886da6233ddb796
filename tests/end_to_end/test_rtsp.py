"""An RTSP camera of 25 frames/s on this machine, by Debian's GStreamer packages."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import socket
import subprocess
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from data.sources import SourceOptions, open_source
from tests.end_to_end.test_live import REPOSITORY, lags, memory_mb, playable_frames, start

DEBIAN_PYTHON = Path("/usr/bin/python3")  # has GStreamer's packages, if any Python has
FPS = 25
pytestmark = pytest.mark.slow


def has_rtsp_server():
    code = (
        "import gi; gi.require_version('GstRtspServer', '1.0'); "
        "from gi.repository import Gst, GstRtspServer; Gst.init(None); "
        "assert Gst.ElementFactory.find('x264enc')"
    )
    if not DEBIAN_PYTHON.exists():
        return False
    return not subprocess.run(
        [DEBIAN_PYTHON, "-c", code], capture_output=True, check=False
    ).returncode


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


class RtspCamera(AbstractContextManager["RtspCamera"]):
    """A server that can be killed and started again under one address."""

    def __init__(self):
        self.port = free_port()
        self.address = f"rtsp://127.0.0.1:{self.port}/numbered"
        self.begin()

    def begin(self):
        command = [str(DEBIAN_PYTHON), str(REPOSITORY / "tests/rtsp_server.py"), str(self.port)]
        self._server = subprocess.Popen(command, text=True, stdout=subprocess.PIPE)
        self._began = float(self._server.stdout.readline())

    def kill(self):
        self._server.kill()
        self._server.communicate()

    def current(self):
        """The number of the frame that is sent at this moment."""
        return int((time.monotonic() - self._began) * FPS)

    def __exit__(self, *_):
        self.kill()


@pytest.fixture
def camera():
    if not has_rtsp_server():
        pytest.skip("Debian's GStreamer RTSP packages are not installed")
    with RtspCamera() as camera:
        yield camera


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_slow_network_is_never_behind(camera):
    lags(open_source((camera.address,), SourceOptions()), camera.current, 2)  # opening takes memory
    before = memory_mb()
    source = open_source((camera.address,), SourceOptions())
    found = lags(source, camera.current, 120)
    assert max(found[5:]) < FPS  # a second
    assert memory_mb() - before < 50
    (state,) = source.streams
    assert state.dropped > state.frames


def test_a_server_that_is_killed_and_comes_back_after_a_minute(camera, tmp_path):
    report = tmp_path / "report.json"
    process, table = start(tmp_path, camera.address, "--report", str(report))
    camera.kill()
    time.sleep(60)
    assert process.poll() is None
    written = len(json.loads(table.read_text()))
    camera.begin()
    wait_until(lambda: len(json.loads(table.read_text())) > written + 2 * FPS)
    process.send_signal(signal.SIGTERM)
    shown = process.communicate(timeout=20)[0]
    assert process.returncode == 0, shown
    assert "no more frames; trying again" in shown and ": frames after " in shown
    (stream,) = json.loads(report.read_text())["streams"]
    assert stream["outages"] >= 1 and not stream["gave_up"]
    assert 55 < stream["seconds_away"] < 90
    entries = json.loads(table.read_text())
    assert playable_frames(table.parent) == len(entries)
    seconds = [entry["seconds"] for entry in entries]
    gaps = [after - before for before, after in itertools.pairwise(seconds)]
    assert min(gaps) >= 0 and max(gaps) > 55  # the table says when nothing was seen


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_what_is_written_plays_and_parses_whenever_the_run_ends(camera, tmp_path, name):
    """Of two streams one of which never comes."""
    never = f"rtsp://127.0.0.1:{free_port()}/never"
    process, table = start(tmp_path, camera.address, never, "--save-jsonl")
    time.sleep(2)
    began = time.monotonic()
    process.send_signal(getattr(signal, name))
    shown = process.communicate(timeout=20)[0]
    took = time.monotonic() - began
    frames = playable_frames(table.parent)
    entries = json.loads(table.read_text())
    lines = (table.parent / "predictions.jsonl").read_text().splitlines()
    rows = (table.parent / "predictions.csv").read_text().splitlines()
    assert len(entries) > FPS and {entry["source"] for entry in entries} == {camera.address}
    if name == "SIGTERM":
        assert process.returncode == 0, shown
        assert frames == len(entries) == len(lines) == len(rows) - 1
        assert f"{never}: 0 frames" in shown
        assert took < 10  # 2 s on a machine that is not busy
    else:
        assert process.returncode == -signal.SIGKILL
        assert len(entries) - 2 * FPS <= frames <= len(entries) + 1  # the last second of video
        json.loads(lines[len(entries) - 1])
    if shutil.which("ffprobe"):
        (video,) = table.parent.glob("*.mp4")
        command = ["ffprobe", "-v", "error", "-count_frames", "-select_streams", "v", "-of"]
        command += ["csv=p=0", "-show_entries", "stream=codec_name,nb_read_frames", str(video)]
        probed = subprocess.run(command, capture_output=True, text=True, check=True)
        assert probed.stdout.strip() == f"h264,{frames}"
