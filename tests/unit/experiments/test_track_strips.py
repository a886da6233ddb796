"""Strips and settings of a tracked video, made of drawn frames."""

from __future__ import annotations

import json
import logging

import cv2
import pytest

from experiments import track_settings, track_strips
from tests.video_builders import save_video


@pytest.fixture
def entries():
    """Twelve frames: id 3 in all of them, id 5 in the second half, one without an id at first."""
    frames = []
    for number in range(1, 13):
        found = [(3, "person", 0, 0.9)] + ([(5, "bicycle", 30, 0.15)] if number > 6 else [])
        frames.append({
            "frame": number, "seconds": (number - 1) / 10,
            "detections": [
                {"box": [x, 4, x + 20, 50], "score": score, "class_id": int(x > 0), "name": name,
                 "track_id": track_id if number > 1 else None}
                for track_id, name, x, score in found
            ],
        })  # fmt: skip
    return frames


def test_strips(tmp_path, entries):
    video = save_video(tmp_path / "v.mp4", 12)
    (tmp_path / "p.json").write_text(json.dumps(entries))
    arguments = ["--predictions", tmp_path / "p.json", "--video", video, "--out", tmp_path / "out"]
    assert track_strips.main([str(each) for each in arguments]) == 0
    strips = track_strips.read_strips(entries, video)
    assert {track_id: strip.frames for track_id, strip in strips.items()} == {
        3: list(range(2, 13)), 5: list(range(7, 13)),
    }  # fmt: skip
    assert strips[5].title(5) == "#5 bicycle 6: frames 7 to 12"
    # Each crop is of its own frame: frame n is gray of value 10 n.
    for number, crop in strips[3].crops.items():
        assert abs(int(crop[20, 5, 0]) - 10 * number) <= 4
    page = cv2.imread(str(tmp_path / "out/01.png"))
    assert page.shape[1] > track_strips.COLUMNS * track_strips.CROP_HW[1]


def test_settings(tmp_path, entries, caplog):
    pytest.importorskip("trackers", reason="trackers is not installed")
    lengths = track_settings.track_lengths(entries, 10.0, track_settings.SETTINGS[0])
    assert lengths == {1: 11, -1: 1}  # the low score alone begins nothing
    (tmp_path / "p.json").write_text(json.dumps(entries))
    with caplog.at_level(logging.INFO):
        assert track_settings.main(["--predictions", str(tmp_path / "p.json")]) == 0
