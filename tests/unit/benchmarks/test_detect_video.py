"""The benchmarks of detection: what is counted, the floor, and what a report says."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from benchmarks import cold_start, stage_times
from benchmarks.detect_video import Round, Setting, reason_against_peer, report, run_round
from benchmarks.measurement import RunFailedError, Spread, script, seconds_of
from benchmarks.stage_times import STAGES, StageTimes, time_stages
from tests.onnx_builders import save_detector
from tests.video_builders import read_video, save_video

ROWS = [[16, 16, 16, 8, 0.5, 0.25, 1.0]]


def times(network=2.0, others=1.0, cores=1.5):
    wall = dict.fromkeys(STAGES, others) | {"network": network}
    return StageTimes(wall, dict.fromkeys(STAGES, cores))


def setting(tmp_path, peer=None):
    video = save_video(tmp_path / "v.mp4", 4, (64, 64))
    return Setting(video, save_detector(tmp_path / "tiny.onnx", ROWS), tmp_path / "w.pt", peer)


def test_the_floor_is_the_larger_of_two():
    assert times(network=5.0, cores=1.0).floor(2) == 5.0
    assert times(network=2.0, cores=1.0).floor(2) == 3.0
    assert times(network=2.0, cores=1.0).floor(6) == 2.0


def test_a_stage_counts_its_block_alone():
    found = StageTimes()
    time.sleep(0.05)
    with found.stage("draw"):
        sum(range(200_000))
    with found.stage("network"):
        time.sleep(0.05)
    assert found.wall["network"] >= 0.05 > found.cores["network"]
    assert found.cores["draw"] > 0 and found.wall["encode"] == 0


def test_every_stage_runs_and_the_video_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(stage_times, "CHUNK", 8)
    video = save_video(tmp_path / "v.mp4", 20, (64, 64))
    folder = tmp_path / "out"
    folder.mkdir()
    found = time_stages(save_detector(tmp_path / "tiny.onnx", ROWS), video, folder)
    assert all(found.wall[stage] > 0 and found.cores[stage] > 0 for stage in STAGES)
    assert len(read_video(folder / "v.mp4")[0]) == 20


@pytest.mark.slow
def test_a_round(tmp_path):
    found = run_round(setting(tmp_path), tmp_path, with_peer=False)
    assert found.frames == 4 and 0 < found.loop < found.process and found.peer is None


def test_the_report_compares_within_each_round(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    # The loop takes 1.1 and 1.5 times the floor of its round, however slow the machine was.
    rounds = [Round(times(10.0), 250, 12.0, 11.0, 24.0), Round(times(20.0), 250, 40.0, 30.0, 60.0)]
    text = report(rounds, setting(tmp_path), None, "2026-01-02")
    assert (
        "detect.py takes 1.30 (1.10 to 1.50) times the floor; yolov5 takes 1.75 (1.50 to 2.00)"
        in text
    )
    assert "| network | 15.00 (10.00 to 20.00) | 1.50 (1.50 to 1.50) |" in text
    assert "commit " in text and "onnxruntime " in text and "rounds in turn: 2;" in text
    without = [Round(each.stages, 250, each.process, each.loop, None) for each in rounds]
    text = report(without, setting(tmp_path), "no --peer given", "2026-01-02")
    assert "Peer: no --peer given." in text


def test_a_missing_peer_is_skipped_with_its_reason(tmp_path):
    assert reason_against_peer(setting(tmp_path)) == "no --peer given"
    missing = reason_against_peer(setting(tmp_path, tmp_path / "python"))
    assert missing == f"{tmp_path}/python: No such file or directory"
    code = "import sys; sys.modules['yolov5'] = None; import runpy; runpy.run_path(sys.argv[2])"
    with pytest.raises(RunFailedError, match="ended with 1"):
        seconds_of([sys.executable, "-c", code, "-c", "x.py"])


def test_the_spread_of_one_round():
    assert Spread((1.0,)).as_text() == "1.00 (1.00 to 1.00)"
    assert Spread((3.0, 1.0, 2.0)).as_text(1) == "2.0 (1.0 to 3.0)"


def test_a_failed_run_is_not_measured():
    with pytest.raises(RunFailedError, match="ended with 2: "):
        seconds_of(script("detect.py", "--no-such-flag"))


def test_the_report_of_the_cold_start():
    text = cold_start.report(
        {"a.onnx": [0.3, 0.5, 0.4], "a.pt": [2.0]}, Path("x.jpg"), "2026-01-02"
    )
    assert "| a.onnx | 0.40 (0.30 to 0.50) |" in text and "| a.pt | 2.00 (2.00 to 2.00) |" in text


@pytest.mark.slow
def test_the_first_box_and_none(tmp_path):
    video = setting(tmp_path)
    image = next(Path("data/images").glob("deeppcb_*.jpg"))
    assert 0 < cold_start.seconds_to_first_box(video.weights, image, tmp_path) < 60
    black = save_detector(tmp_path / "none.onnx", [[16, 16, 16, 8, 0.0, 0.25, 1.0]])
    with pytest.raises(RunFailedError, match="found nothing"):
        cold_start.seconds_to_first_box(black, image, tmp_path)
