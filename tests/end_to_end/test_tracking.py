"""detect.py --track on drawn videos: squares that move, cross, hide and leave."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.end_to_end.test_detect import REPOSITORY, run
from tests.onnx_builders import save_square_detector
from tests.video_builders import read_video

RED, GREEN, DIM_RED = (255, 0, 0), (0, 255, 0), (168, 0, 0)  # dim: a score of about 0.15
SIDE = 16
ZONES = """
lines: {middle: {points: [[64, 0], [64, 64]], classes: [cat]}}
zones: {right: {points: [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]}}
"""
TABLES = ["--save-csv", "--save-json", "--save-jsonl", "--save-txt", "--save-conf"]


@pytest.fixture(autouse=True)
def _library():
    pytest.importorskip("trackers", reason="trackers is not installed")


@pytest.fixture
def weights(tmp_path):
    return save_square_detector(tmp_path / "squares.onnx", side=SIDE, image_hw=(64, 128))


def save_squares(path, frames, fps=10.0):
    """A lossless video of frames, each a list of (color, left, top)."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), fps, (128, 64))
    for squares in frames:
        image = np.zeros((64, 128, 3), np.uint8)
        for color, left, top in squares:
            image[top : top + SIDE, left : left + SIDE] = color[::-1]
        writer.write(image)
    writer.release()
    return path


def street(count=24):
    """A cat goes left and fades for three frames; a dog goes right, ahead of it, and leaves."""
    frames = []
    for n in range(count):
        cat = DIM_RED if 10 <= n < 13 else RED
        squares = [(cat, 108 - 4 * n, 8)] if 108 - 4 * n >= 0 else []
        if n < 18:
            squares.append((GREEN, 8 + 4 * n, 40))
        frames.append(squares)
    return frames


@pytest.fixture
def video(tmp_path):
    return save_squares(tmp_path / "street.avi", street())


@pytest.fixture
def zones(tmp_path):
    path = tmp_path / "zones.yaml"
    path.write_text(ZONES)
    return path


def arguments(weights, source, folder, *flags):
    return ["--weights", weights, "--source", source, "--project", folder, "--img", 64, 128,
            "--track", *flags]  # fmt: skip


def entries(folder):
    return json.loads((folder / "predictions.json").read_text())


def ids_by_name(entry):
    return {each["name"]: each["track_id"] for each in entry["detections"]}


def test_ids_counts_and_tables(tmp_path, weights, video, zones, capfd):
    report = tmp_path / "report.json"
    flags = ["--zones", zones, "--report", report, *TABLES]
    assert run(*arguments(weights, video, tmp_path / "runs", *flags)) == 0
    folder = tmp_path / "runs/exp"
    found = entries(folder)
    assert len(found) == 24
    assert ids_by_name(found[0]) == {"cat": None, "dog": None}
    cat, dog = ids_by_name(found[1])["cat"], ids_by_name(found[1])["dog"]
    assert {cat, dog} == {1, 2}
    for n, entry in enumerate(found[1:], 1):
        shown = {} if 10 <= n < 13 else {"cat": cat}
        assert ids_by_name(entry) == (shown | {"dog": dog} if n < 18 else shown)
    assert found[-1]["counts"]["lines"] == {"middle": {"in": 1, "out": 0}}
    assert found[-1]["counts"]["zones"] == {"right": {"now": 0, "total": 2}}
    content = json.loads(report.read_text())
    assert content["tracks"] == [{"source": str(video), "ids": 2, **found[-1]["counts"]}]
    assert list(content["ms_per_frame"])[-2:] == ["track", "write"]
    summary = f"{video}: 2 ids; middle: 1 in, 0 out; right: 0 now, 2 in all\n"
    assert summary in capfd.readouterr().out
    with (folder / "counts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [(row["In"], row["Out"]) for row in rows if row["Kind"] == "line"]
    assert lines == [("0", "0"), ("1", "0")]
    with (folder / "predictions.csv").open(newline="") as file:
        column = [row["Track ID"] for row in csv.DictReader(file)]
    expected = [each["track_id"] for entry in found for each in entry["detections"]]
    assert column == ["" if each is None else str(each) for each in expected]
    label = (folder / "labels/street_2.txt").read_text().splitlines()
    assert sorted(row.split()[-1] for row in label) == ["1", "2"]
    assert {len(row.split()) for row in label} == {7}
    drawn, _ = read_video(folder / "street.mp4")
    assert len(drawn) == 24 and (drawn[-1] > 100).any()  # the line is drawn, no square is left


def test_the_boxes_are_those_of_a_run_without_ids(tmp_path, weights, video):
    assert run(*arguments(weights, video, tmp_path / "with", "--save-json", "--nosave")) == 0
    plain = [each for each in arguments(weights, video, tmp_path / "without", "--save-json",
                                        "--nosave") if each != "--track"]  # fmt: skip
    assert run(*plain) == 0
    tracked = entries(tmp_path / "with/exp")
    for entry in tracked:
        for each in entry["detections"]:
            del each["track_id"]
    assert tracked == entries(tmp_path / "without/exp")


def test_every_video_by_itself_and_images_without(tmp_path, weights, zones, capfd):
    folder = tmp_path / "in"
    folder.mkdir()
    save_squares(folder / "a.avi", street())
    save_squares(folder / "c.avi", street())
    cv2.imwrite(str(folder / "b.png"), np.zeros((64, 128, 3), np.uint8))
    flags = ["--zones", zones, "--save-json", "--nosave", "--batch-size", 4]
    assert run(*arguments(weights, folder, tmp_path / "runs", *flags)) == 0
    found = entries(tmp_path / "runs/exp")
    first, image, second = found[:24], found[24], found[25:]
    for a, b in zip(first, second, strict=True):
        assert (a["detections"], a["counts"]) == (b["detections"], b["counts"])
    assert "counts" not in image
    assert capfd.readouterr().err.count("an image by itself has no ids") == 1


@pytest.mark.parametrize("kept", [1, 6, 24, 27, 40])
def test_a_cut_run_goes_on_with_the_whole_video(tmp_path, weights, zones, kept):
    """Whatever was cut: the tables are those of a run that was not."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.avi", "b.avi"):
        save_squares(folder / name, street())
    flags = ["--zones", zones, "--nosave", "--resume", *TABLES]
    assert run(*arguments(weights, folder, tmp_path / "runs", *flags)) == 0
    run_folder = tmp_path / "runs/exp"
    names = ["predictions.csv", "predictions.json", "predictions.jsonl", "counts.csv"]
    whole = {name: (run_folder / name).read_bytes() for name in names}
    lines = (run_folder / "progress.jsonl").read_bytes().splitlines(keepends=True)
    (run_folder / "progress.jsonl").write_bytes(b"".join(lines[: kept + 1]))
    assert run(*arguments(weights, folder, tmp_path / "runs", *flags)) == 0
    assert {name: (run_folder / name).read_bytes() for name in names} == whole


def test_other_zones_are_not_gone_on_with(tmp_path, weights, video, zones, capfd):
    flags = ["--zones", zones, "--nosave", "--resume"]
    assert run(*arguments(weights, video, tmp_path / "runs", *flags)) == 0
    zones.write_text(ZONES.replace("middle", "center"))
    assert run(*arguments(weights, video, tmp_path / "runs", *flags)) == 2
    assert "was begun with --zones" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--shard", "1/2"], "--shard 1/2: objects keep their ids through a whole video"),
        (["--zones", "none.yaml"], "none.yaml: no such file"),
        (["--zones", "zones.yaml", "--no-track"], "--zones zones.yaml: tracked objects are"),
        (["--zones", "zones.yaml", "--classes", "1"], "lines.middle.classes: cat (class 0) is not"),
        (["--zones", "large.yaml"], "the point [129, 64] is outside of the image, which is 128 x"),
    ],
)
def test_refusals(tmp_path, weights, video, zones, capfd, monkeypatch, flags, message):
    """Exit code 2, one sentence, and no folder that stays."""
    monkeypatch.chdir(tmp_path)
    Path("large.yaml").write_text("lines: {a: {points: [[0, 0], [129, 64]]}}")
    assert run(*arguments(weights, video, tmp_path / "runs", *flags)) == 2
    errors = capfd.readouterr().err.splitlines()
    assert len(errors) == 1 and message in errors[0]
    assert not (tmp_path / "runs").exists()


def test_shards_of_several_videos(tmp_path, weights):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.avi", "b.avi"):
        save_squares(folder / name, street(6))
    flags = ["--save-json", "--nosave", "--shard", "2/2"]
    assert run(*arguments(weights, folder, tmp_path / "runs", *flags)) == 0
    found = entries(tmp_path / "runs/exp-2of2")
    assert len(found) == 6 and ids_by_name(found[-1]) == {"cat": 1, "dog": 2}


def test_torch_is_not_imported(tmp_path, weights, video):
    flags = [str(each) for each in arguments(weights, video, tmp_path)]
    code = (
        "import sys; import detect\n"
        f"assert detect.main({flags!r}) == 0\n"
        "assert 'torch' not in sys.modules and 'trackers' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


def test_the_library_is_loaded_for_tracking_alone(tmp_path, weights, video):
    flags = [str(each) for each in arguments(weights, video, tmp_path) if each != "--track"]
    code = (
        "import sys; import detect\n"
        f"assert detect.main({flags!r}) == 0\n"
        "assert not {'trackers', 'supervision', 'scipy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


def test_a_second_network_is_compared_by_what_is_shown(tmp_path, weights, video):
    """The tracker's low scores are for it alone: the same network agrees with itself."""
    report = tmp_path / "report.json"
    flags = ["--compare", weights, "--report", report]
    assert run(*arguments(weights, video, tmp_path / "runs", *flags)) == 0
    totals = json.loads(report.read_text())["comparison"]["total"]
    assert totals["agreeing"] > 20
    assert sum(totals.values()) == totals["agreeing"]
