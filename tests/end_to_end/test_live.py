"""Cameras and signals: nothing is late, nothing is lost."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

import detect as script
from data.sources import SourceOptions, open_source
from data.streams import LiveFrames
from tests.loopback_camera import LoopbackCamera, number_in
from tests.onnx_builders import save_detector
from tests.video_builders import save_video
from utils.detect.pipeline import STAGES, Found, FrameDetector, StageClock
from utils.letterbox import InputSize
from utils.postprocess import PostprocessConfig

REPOSITORY = Path(script.__file__).parent
ROWS = [[16, 16, 16, 8, 0.5, 0.25, 1.0]]


class SlowRunner:
    """A network of 5 images per second that finds one box in each."""

    batch_size = None

    def run(self, images):
        time.sleep(0.2)
        row = np.array([[[16, 16, 8, 8, 1, 1, 0]]], np.float32)
        return np.repeat(row, len(images), axis=0)


def lags(source, camera_number, seconds):
    """How many frames of the camera each result is behind it, for so long; then it ends."""
    detector = FrameDetector(
        SlowRunner(), ("cat", "dog"), InputSize((64, 64), 32), PostprocessConfig()
    )
    end = time.monotonic() + seconds
    found = []
    results = detector.results(source, 1, StageClock(STAGES))
    for result in results:
        assert isinstance(result, Found) and len(result.detections) == 1
        found.append(camera_number() - number_in(result.frame.image))
        if time.monotonic() > end:
            break
    source.stop()
    results.close()
    return found


def memory_mb():
    """Of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.parametrize("seconds", [2.0, pytest.param(120.0, marks=pytest.mark.slow)])
def test_a_slow_network_is_never_behind(seconds):
    with LoopbackCamera() as camera:
        source = open_source((camera.address,), SourceOptions())
        lags(source, camera.current, 0.5)  # opening takes its time
        before = memory_mb()
        source = open_source((camera.address,), SourceOptions())
        found = lags(source, camera.current, seconds)
        assert len(found) <= 5 * seconds + 5
        assert max(found[2:]) < camera.fps  # less than a second
        assert memory_mb() - before < 50
        (state,) = source.streams
        assert state.dropped > state.frames


def test_a_camera_that_goes_and_comes_back():
    with LoopbackCamera() as camera:
        source = open_source((camera.address, "http://127.0.0.1:9/never"), SourceOptions())
        assert isinstance(source, LiveFrames)
        groups = source.live.groups()
        assert next(groups)[0].position == 1
    with LoopbackCamera(port=camera.port) as again:
        frame = next(frame for (frame,) in groups if number_in(frame.image) <= again.current() + 1)
        assert frame.position == 1
        after = [number_in(frames[0].image) for frames in itertools.islice(groups, 5)]
        assert after == sorted(after)
    groups.close()
    alive, dead = source.streams
    assert alive.outages >= 1 and not alive.gave_up and dead.frames == 0


def test_a_snapshot_is_one_image(tmp_path):
    weights = save_detector(tmp_path / "tiny.onnx", ROWS)
    with LoopbackCamera() as camera:
        for name in ("snapshot", "snapshot.jpg"):
            arguments = ["--weights", weights, "--source", f"{camera.address}{name}", "--imgsz", 64]
            flags = ["--save-json", "--project", tmp_path / name]
            assert script.main([str(argument) for argument in [*arguments, *flags]]) == 0
            (entry,) = json.loads((tmp_path / name / "exp/predictions.json").read_text())
            assert entry["source"] == f"{camera.address}{name}" and entry["time"] is None
            assert [path.suffix for path in (tmp_path / name / "exp").glob("http*")] == [".jpg"]


def start(tmp_path, *arguments):
    """detect.py over addresses, in a process of its own, until it has written twenty frames."""
    weights = save_detector(tmp_path / "tiny.onnx", ROWS)
    command = [sys.executable, "detect.py", "--weights", str(weights), "--source", *arguments]
    command += ["--imgsz", "64", "--project", str(tmp_path / "runs"), "--save-csv", "--save-json"]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )  # fmt: skip
    table = tmp_path / "runs/exp/predictions.json"
    deadline = time.monotonic() + 60
    while not table.is_file() or table.read_text().count("image_hw") < 20:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    return process, table


def playable_frames(folder, pattern="*.mp4"):
    (video,) = folder.glob(pattern)
    with av.open(str(video)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_run_with_everything_written(tmp_path, name):
    report = tmp_path / "report.json"
    with LoopbackCamera() as camera:
        process, table = start(tmp_path, camera.address, "--report", str(report))
        process.send_signal(getattr(signal, name))
        shown = process.communicate(timeout=20)[0]
    assert process.returncode == 0, shown
    assert "stopped; everything so far is saved" in shown
    frames = json.loads(report.read_text())["frames"]
    assert frames >= 20 and json.loads(report.read_text())["streams"][0]["frames"] >= frames
    assert len(json.loads(table.read_text())) == frames
    assert playable_frames(table.parent) == frames
    assert not list(table.parent.glob(".*"))  # no temporary file


def test_a_signal_to_a_run_over_a_file_is_told_from_its_end(tmp_path):
    weights = save_detector(tmp_path / "tiny.onnx", ROWS)
    with LoopbackCamera() as camera:
        (tmp_path / "a.jpg").write_bytes(camera.jpeg())
    (tmp_path / "list.txt").write_text("a.jpg\n" * 100_000)
    process, table = start(tmp_path, str(tmp_path / "list.txt"), "--nosave")
    process.send_signal(signal.SIGTERM)
    shown = process.communicate(timeout=20)[0]
    assert process.returncode == 128 + signal.SIGTERM, shown
    assert len(json.loads(table.read_text())) >= 20 and weights.exists()


def test_a_killed_run_leaves_what_it_found(tmp_path):
    with LoopbackCamera() as camera:
        process, table = start(tmp_path, camera.address)
        time.sleep(1)
        process.kill()
        process.communicate()
    entries = json.loads(table.read_text())
    assert len(entries) >= 20
    rows = (table.parent / "predictions.csv").read_text().splitlines()
    assert len(rows) - 1 in (len(entries), len(entries) + 1)  # one box each
    assert len(entries) - 30 <= playable_frames(table.parent) <= len(entries) + 1


def test_lines_on_standard_output_are_all_that_is_there(tmp_path):
    with LoopbackCamera() as camera:
        (tmp_path / "a.jpg").write_bytes(camera.jpeg())
    weights = save_detector(tmp_path / "tiny.onnx", ROWS)
    command = [sys.executable, "detect.py", "--weights", str(weights), "--imgsz", "64", "--source"]
    command += [str(tmp_path / "a.jpg"), str(tmp_path / "a.jpg"), "--save-jsonl", "-", "--nosave"]
    command += ["--project", str(tmp_path / "runs")]
    done = subprocess.run(command, cwd=REPOSITORY, text=True, capture_output=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["frame"] for line in lines] == [1, 1]
    assert "2 frames, " in done.stderr


@pytest.mark.parametrize("how", ["ends", "is closed"])
def test_who_reads_standard_output_may_end(how, tmp_path):
    """One line and no traceback; without `--save-jsonl -` nothing needs standard output."""
    weights = save_detector(tmp_path / "tiny.onnx", ROWS)
    save_video(tmp_path / "v.mp4", 5, (64, 64), fps=10)
    command = [sys.executable, "detect.py", "--weights", weights, "--imgsz", "64", "--source",
               tmp_path / "v.mp4", "--nosave", "--project", tmp_path / "runs"]  # fmt: skip
    line = shlex.join(map(str, command))
    reader = "| true" if how == "ends" else ">&-"
    shell = ["bash", "-o", "pipefail", "-c", f"{line} --save-jsonl - {reader}"]
    done = subprocess.run(shell, cwd=REPOSITORY, text=True, capture_output=True, check=False)
    reason = "Broken pipe" if how == "ends" else "it is closed"
    expected = f"failed: standard output: cannot be written ({reason}); files written before are"
    assert (done.returncode, done.stderr.splitlines()[-1][: len(expected)]) == (1, expected)
    assert "Traceback" not in done.stderr and "terminate" not in done.stderr
    for closed in (">&-", "2>&-", ">&- 2>&-"):
        subprocess.run(["bash", "-c", f"{line} {closed}"], cwd=REPOSITORY, check=True,
                       capture_output=True)  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount on this system")
def test_a_full_disk_ends_the_run_with_its_reason(tmp_path):
    disk = tmp_path / "runs"
    disk.mkdir()
    size = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    if subprocess.run(size, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        with LoopbackCamera(fps=100) as camera:
            weights = save_detector(tmp_path / "tiny.onnx", ROWS)
            command = [sys.executable, "detect.py", "--weights", str(weights), "--imgsz", "64"]
            command += ["--source", camera.address, "--project", str(disk), "--save-json"]
            done = subprocess.run(command, cwd=REPOSITORY, text=True, capture_output=True,
                                  check=False, timeout=120)  # fmt: skip
        assert done.returncode == 1 and "No space left on device" in done.stderr
    finally:
        subprocess.run(["umount", str(disk)], check=False)
