"""detect.py --compare from the command line to its files."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import detect as script
import export
from tests.error_messages import assert_message
from tests.loopback_camera import LoopbackCamera
from tests.onnx_builders import OUR_METADATA, save_detector
from tests.video_builders import read_video, save_video

# cx, cy, w, h, objectness, cat, dog; in pixels of a 64 x 64 input
AGREEING, DIFFERING = [16, 16, 16, 8, 1, 0.5, 0.25], [48, 40, 16, 16, 1, 0.75, 0.125]
MISSING, EXTRA = [10, 50, 4, 4, 1, 0, 0.8], [50, 10, 8, 8, 1, 0.27, 0]
FIRST = [AGREEING, DIFFERING, MISSING]
SECOND = [AGREEING, [48, 40, 16, 15, 1, 0.25, 0.65], EXTRA]
COUNTS = {"agreeing": 1, "differing": 1, "missing": 1, "extra": 1}


def renamed(*names):
    return {**OUR_METADATA, "names": json.dumps(names)}


def in_other_order(rows):
    """The rows of a network whose classes are dog, cat."""
    return [[*row[:5], row[6], row[5]] for row in rows]


@pytest.fixture
def networks(tmp_path):
    """Two networks; the second has its classes in the other order."""
    second = save_detector(
        tmp_path / "second.onnx", in_other_order(SECOND), metadata=renamed("dog", "cat")
    )
    return save_detector(tmp_path / "first.onnx", FIRST), second


@pytest.fixture
def images(tmp_path):
    """White images in which everything is found, a black one, and one that cannot be read."""
    folder = tmp_path / "images"
    folder.mkdir()
    white = np.full((64, 64, 3), 255, np.uint8)
    cv2.imwrite(str(folder / "a.png"), white)
    cv2.imwrite(str(folder / "b.png"), 0 * white)
    (folder / "c.png").write_bytes(b"no image")
    cv2.imwrite(str(folder / "d.png"), white)
    return folder


def run(networks, source, project, *flags):
    first, second = networks
    given = ["--weights", first, "--compare", second, "--source", source, "--project", project,
             "--imgsz", 64, "--device", "cpu"]  # fmt: skip
    return script.main([str(each) for each in (*given, *flags)])


def rows(folder):
    with (folder / "compare.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def content(folder):
    return json.loads((folder / "compare.json").read_text())


def test_every_output_of_a_folder(tmp_path, networks, images, capsys):
    report = tmp_path / "report.json"
    assert run(networks, images, tmp_path / "runs", "--report", report) == 0
    folder = tmp_path / "runs" / "exp"
    assert sorted(path.name for path in folder.iterdir()) == [
        *("a.png", "b.png", "compare.csv", "compare.json", "d.png", "progress.jsonl")
    ]
    found = rows(folder)
    assert [(row["Image Name"], row["Status"], row["Differs"]) for row in found] == [
        (name, *box)
        for name in ("a.png", "d.png")
        for box in (
            ("missing", ""), ("differing", "class score"), ("agreeing", ""),
            ("extra", "near-threshold"),
        )
    ]  # fmt: skip
    missing, differing, _, extra = found[:4]
    assert (missing["Prediction A"], missing["Prediction B"]) == ("dog", "")
    assert (differing["Prediction A"], differing["Confidence A"]) == ("cat", "0.75")
    assert (differing["Prediction B"], differing["Class ID B"]) == ("dog", "1")
    assert [differing[f"{edge} B"] for edge in ("x1", "y1", "x2", "y2")] == [
        *("40.0", "32.5", "56.0", "47.5")
    ]
    assert float(differing["IoU"]) == pytest.approx(15 / 16, abs=1e-4)
    assert (extra["Confidence A"], extra["Confidence B"]) == ("", "0.27")
    summary = content(folder)
    assert summary["total"] == {status: 2 * count for status, count in COUNTS.items()}
    assert summary["classes"] == [
        {"class_id": 0, "name": "cat", "agreeing": 2, "differing": 2, "missing": 0, "extra": 2},
        {"class_id": 1, "name": "dog", "agreeing": 0, "differing": 0, "missing": 2, "extra": 0},
    ]
    assert summary["differing_in"] == {"class": 2, "box": 0, "score": 2}
    assert (summary["first"], summary["second"]) == tuple(map(str, networks))
    written = json.loads(report.read_text())
    assert written["comparison"] == summary
    assert (written["frames"], len(written["skipped"])) == (3, 1)
    assert min(summary["second_ms_per_frame"].values()) > 0
    printed = capsys.readouterr().out
    assert "A: first.onnx, B: second.onnx" in printed
    assert [line.split() for line in printed.splitlines() if line.startswith("all ")] == [
        ["all", "2", "2", "2", "2"]
    ]
    drawn = cv2.imread(str(folder / "a.png"))
    assert drawn.shape[1] > 1.9 * drawn.shape[0] * 0.9  # two squares and captions


def test_the_other_outputs_are_those_of_the_first_network(tmp_path, networks, images):
    flags = ("--save-txt", "--save-conf", "--save-csv", "--save-json", "--save-crop", "--nosave")
    run(networks, images, tmp_path / "both", *flags)
    alone = ["--weights", networks[0], "--source", images, "--project", tmp_path / "alone",
             "--imgsz", 64, *flags]  # fmt: skip
    assert script.main([str(each) for each in alone]) == 0

    def files(project):
        found = [path for path in (tmp_path / project).rglob("*") if path.is_file()]
        kept = [path for path in found if not path.name.startswith(("compare", "progress"))]
        return {path.relative_to(tmp_path / project): path.read_bytes() for path in kept}

    assert files("both") == files("alone") and len(files("both")) > 5


def test_chosen_classes_are_those_of_the_first_network(tmp_path, networks, images):
    assert run(networks, images, tmp_path / "runs", "--classes", 0, "--nosave") == 0
    # the dog of the second network that lies over the first one's cat is not asked for
    assert [(row["Status"], row["Prediction A"] or row["Prediction B"])
            for row in rows(tmp_path / "runs" / "exp")[:3]] == [
        ("missing", "cat"), ("agreeing", "cat"), ("extra", "cat")
    ]  # fmt: skip


def test_a_video(tmp_path, networks):
    video = save_video(tmp_path / "v.mp4", 6, (48, 64), fps=12)
    assert run(networks, video, tmp_path / "runs", "--conf", 0.005) == 0
    frames, fps = read_video(tmp_path / "runs" / "exp" / "v.mp4")
    assert len(frames) == 6 and fps == pytest.approx(12)
    height, width = frames[0].shape[:2]
    assert width > 2 * 800 and height > 600
    left, right = frames[5][:, : width // 2], frames[5][:, width // 2 :]
    assert left.astype(int).mean() == pytest.approx(right.astype(int).mean(), rel=0.1)
    found = rows(tmp_path / "runs" / "exp")
    assert {row["Frame"] for row in found} == {"1", "2", "3", "4", "5", "6"}
    assert {row["Output"] for row in found} == {f"v_{number}" for number in range(1, 7)}


def test_a_live_source_until_a_signal(tmp_path, networks):
    first, second = networks
    table = tmp_path / "exp" / "compare.csv"
    with LoopbackCamera() as camera:
        given = ["--weights", first, "--compare", second, "--source", camera.address, "--imgsz", 64,
                 "--project", tmp_path, "--device", "cpu"]  # fmt: skip
        command = [sys.executable, "detect.py", *(str(each) for each in given)]
        process = subprocess.Popen(command, cwd=Path(script.__file__).parent)
        end = time.monotonic() + 60
        while not (table.exists() and len(table.read_bytes().splitlines()) > 20):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    found = rows(table.parent)
    assert {row["Status"] for row in found} == set(COUNTS) and all(row["Time"] for row in found)
    assert sum(content(table.parent)["total"].values()) == len(found)
    (video,) = table.parent.glob("*.mp4")
    frames, _ = read_video(video)
    assert len(frames) == len({row["Frame"] for row in found})


def test_a_run_that_was_cut_goes_on(tmp_path, networks, images):
    run(networks, images, tmp_path / "whole")
    folder = tmp_path / "cut" / "exp"
    run(networks, images, tmp_path / "cut")
    progress = folder / "progress.jsonl"
    lines = progress.read_text().splitlines(keepends=True)
    progress.write_text("".join(lines[:2]))  # the options, and the first image
    (folder / "compare.json").unlink()
    assert run(networks, images, tmp_path / "cut", "--resume") == 0
    assert rows(folder) == rows(tmp_path / "whole" / "exp")
    ours, theirs = content(folder), content(tmp_path / "whole" / "exp")
    for each in (ours, theirs):
        each.pop("second_ms_per_frame")
    assert ours == theirs
    # with another second network it is another run
    other = save_detector(tmp_path / "other.onnx", FIRST)
    assert run((networks[0], other), images, tmp_path / "cut", "--resume") == 2


@pytest.mark.parametrize(
    ("shape", "classes"),
    [
        (("batch", 3, "height", "width"), 2),
        ((1, 3, 64, 64), 2),  # of one size, as the other is used
        ((1, 3, 128, 128), 2),  # of another one
        ((3, 3, 64, 64), 2),  # of several images at a time
    ],
)
def test_sizes_may_differ(tmp_path, networks, images, shape, classes):
    scale = shape[2] / 64 if isinstance(shape[2], int) else 1
    larger = [[*(scale * edge for edge in row[:4]), *row[4:]] for row in FIRST]
    other = save_detector(tmp_path / "other.onnx", larger, input_shape=shape)
    cv2.imwrite(str(images / "wide.png"), np.full((32, 64, 3), 255, np.uint8))
    for number, pair in enumerate([(networks[0], other), (other, networks[0])]):
        project = tmp_path / f"runs{number}"
        assert run(pair, images, project, "--nosave", "--batch-size", 2) == 0
        total = content(project / "exp")["total"]
        assert total["agreeing"] >= 6
        # The answers do not depend on the image: padded alike, the wide one's boxes agree, too.
        if shape[2] == 64:
            assert total == {"agreeing": 9, "differing": 0, "missing": 0, "extra": 0}


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("cat", "hog"), ("has no class 'dog'",)),
        (("cat", "dog", "ox"), ("has no class 'ox'",)),
    ],
)
def test_other_class_names_are_refused(tmp_path, networks, images, capsys, names, parts):
    row = [*AGREEING[:5], *(0.5 for _ in names)]
    other = save_detector(tmp_path / "other.onnx", [row], metadata=renamed(*names))
    assert run((networks[0], other), images, tmp_path / "runs") == 2
    assert_message(capsys.readouterr().err.strip(), "error: --compare: ", str(other), *parts)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("weights", ["", "missing.onnx", "text.txt"])
def test_a_second_file_that_is_none(tmp_path, networks, images, capsys, weights):
    (tmp_path / "text.txt").write_text("text")
    path = str(tmp_path / weights) if weights else ""
    assert run((networks[0], path), images, tmp_path / "runs") == 2
    message = capsys.readouterr().err.strip()
    assert_message(message, "error: ", weights or "--compare: is empty")


@pytest.mark.slow
def test_a_checkpoint_agrees_with_its_exported_file(tmp_path, shared):
    weights, onnx = shared / "weights" / "yolov5n.pt", tmp_path / "exported.onnx"
    assert export.main(["--weights", str(weights), "--output", str(onnx)]) == 0
    images = sorted((shared / "data" / "coco128" / "images" / "train2017").glob("*.jpg"))[:24]
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(map(str, images)))
    for pair in ((weights, onnx), (onnx, weights)):
        flags = ["--weights", pair[0], "--compare", pair[1], "--source", listed, "--exist-ok",
                 "--project", tmp_path, "--nosave", "--device", "cpu"]  # fmt: skip
        assert script.main([str(each) for each in flags]) == 0
        summary = content(tmp_path / "exp")
        assert summary["total"]["agreeing"] > 50
        assert sum(summary["total"].values()) == summary["total"]["agreeing"]
        assert summary["min_iou"] > 0.99 and summary["max_score_difference"] < 0.001


def test_without_the_flag_nothing_of_it_is_written(tmp_path, networks, images):
    arguments = ["--weights", networks[0], "--source", images, "--project", tmp_path / "runs",
                 "--report", tmp_path / "report.json"]  # fmt: skip
    assert script.main([str(each) for each in arguments]) == 0
    assert not list(Path(tmp_path / "runs").rglob("compare*"))
    assert "comparison" not in json.loads((tmp_path / "report.json").read_text())
