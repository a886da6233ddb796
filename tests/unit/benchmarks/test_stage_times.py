"""The stages of detection one by one: what is counted, and the floor."""

from __future__ import annotations

import time

from benchmarks import stage_times
from benchmarks.stage_times import STAGES, StageTimes, time_stages
from tests.onnx_builders import save_detector
from tests.video_builders import read_video, save_video

ROWS = [[16, 16, 16, 8, 0.5, 0.25, 1.0]]


def times(network=2.0, others=1.0, cores=1.5):
    wall = dict.fromkeys(STAGES, others) | {"network": network}
    return StageTimes(wall, dict.fromkeys(STAGES, cores))


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
