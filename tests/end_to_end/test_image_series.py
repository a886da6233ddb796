"""Animations and pages from the command line: names, tables, videos, parts, and runs that go on."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.end_to_end.test_bulk import arguments, content
from tests.end_to_end.test_detect import ROWS, run
from tests.onnx_builders import save_detector
from tests.unit.data.series import write_series
from tests.video_builders import read_video


@pytest.fixture
def weights(tmp_path):
    return save_detector(tmp_path / "tiny.onnx", ROWS)


@pytest.fixture
def folder(tmp_path):
    """Pages, an animation and an image, in this order."""
    white = [np.full((64, 64, 3), 255 - 20 * number, np.uint8) for number in range(3)]
    images = tmp_path / "images"
    images.mkdir()
    write_series(images / "pages.tif", "TIFF", white)
    write_series(images / "moving.gif", "GIF", white, duration=[100, 300, 200])
    Image.fromarray(white[0]).save(images / "still.png")
    (images / "raw.dng").write_bytes(b"II*\0")
    return images


def lines(run_folder):
    text = (run_folder / "predictions.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_what_is_written(tmp_path, weights, folder):
    report = tmp_path / "report.json"
    assert run(*arguments(weights, folder, tmp_path / "runs", "--report", report)) == 0
    files = {name for name in content(tmp_path / "runs/exp") if "/" not in name}
    assert files >= {"pages_1.tif", "pages_2.tif", "pages_3.tif", "moving.mp4", "still.png"}
    assert not {"pages.tif", "pages.mp4", "moving_1.gif", "moving.gif"} & files
    frames, _ = read_video(tmp_path / "runs/exp/moving.mp4")
    assert len(frames) == 3
    found = lines(tmp_path / "runs/exp")
    assert [each["frame"] for each in found] == [1, 2, 3, 1, 2, 3, 1]
    times = [each["seconds"] for each in found]
    assert times[:3] == pytest.approx([0, 0.1, 0.4]) and times[3:] == [None] * 4
    said = json.loads(report.read_text())
    assert said["frames"] == 7
    reason = ".dng files cannot be read; save it as JPEG or PNG"
    assert said["skipped"] == [{"source": str(folder / "raw.dng"), "reason": reason}]
    labels = {name for name in content(tmp_path / "runs/exp") if name.startswith("labels/")}
    assert labels >= {"labels/pages_1.txt", "labels/moving_3.txt", "labels/still.txt"}


def test_strict_runs_end_at_what_a_folder_cannot_read(tmp_path, weights, folder):
    assert run(*arguments(weights, folder, tmp_path / "runs", "--strict")) == 2


@pytest.mark.parametrize("name", ["pages.tif", "moving.gif"])
def test_parts_of_one_file_are_ranges_of_its_images(tmp_path, weights, folder, name):
    parts = []
    for part in (1, 2):
        flags = ("--shard", f"{part}/2", "--nosave")
        assert run(*arguments(weights, folder / name, tmp_path / "parts", *flags)) == 0
        parts += lines(tmp_path / f"parts/exp-{part}of2")
    assert [each["frame"] for each in parts] == [1, 2, 3]


@pytest.mark.parametrize("kept", [1, 2, 4, 5, 6])
def test_a_cut_run_goes_on(tmp_path, weights, folder, kept):
    """Behind its last page or image, a video from its start: the same files in the end."""
    assert run(*arguments(weights, folder, tmp_path / "whole")) == 0
    cut = tmp_path / "cut/exp"
    shutil.copytree(tmp_path / "whole/exp", cut)
    progress = (cut / "progress.jsonl").read_bytes().splitlines(keepends=True)
    (cut / "progress.jsonl").write_bytes(b"".join(progress[: 1 + kept]))
    assert run(*arguments(weights, folder, tmp_path / "cut", "--resume")) == 0
    whole, resumed = content(tmp_path / "whole/exp"), content(cut)
    assert whole.keys() == resumed.keys()
    assert {name for name in whole if whole[name] != resumed[name]} <= {"moving.mp4"}
