"""detect.py from the command line to the files it writes, with tiny ONNX networks."""

from __future__ import annotations

import csv
import json
import logging
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import detect as script
from detect import DetectConfig, detect
from tests.onnx_builders import save_detector
from tests.video_builders import read_video, save_video
from utils.cli import parse
from utils.errors import CheckpointError, ConfigError, DatasetError

# cx, cy, w, h, objectness, cat, dog; in pixels of a 64 x 64 input
ROWS = [
    [16, 16, 16, 8, 0.5, 0.25, 1.0],
    [48, 40, 16, 16, 1.0, 0.75, 0.125],
    [48, 40, 16, 15, 1.0, 0.5, 0.125],  # suppressed by the one before
    [10, 50, 4, 4, 0.25, 1.0, 1.0],  # not above the threshold
]
REPOSITORY = Path(script.__file__).parent


@pytest.fixture
def weights(tmp_path):
    return str(save_detector(tmp_path / "tiny.onnx", ROWS))


@pytest.fixture
def images(tmp_path):
    """Three white images (everything is found) and a black one (nothing is)."""
    folder = tmp_path / "images"
    folder.mkdir()
    white = np.full((64, 64, 3), 255, np.uint8)
    cv2.imwrite(str(folder / "a.png"), white)
    cv2.imwrite(str(folder / "b.png"), 0 * white)
    cv2.imwrite(str(folder / "c.png"), np.full((64, 128, 3), 255, np.uint8))
    cv2.imwrite(str(folder / "d.png"), white)
    return folder


def config(weights, source, tmp_path, **changes):
    arguments = {"imgsz": 64, "project": str(tmp_path / "runs"), **changes}
    return DetectConfig(weights=weights, source=str(source), **arguments)


def run(*arguments):
    return script.main([str(argument) for argument in arguments])


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def test_every_output_of_a_folder(tmp_path, weights, images):
    report = tmp_path / "report.json"
    flags = ["--save-txt", "--save_conf", "--save-csv", "--save-json", "--save-crop"]
    arguments = ["--weights", weights, "--source", images, "--img", 64, "--report", report]
    assert run(*arguments, *flags, "--project", tmp_path / "runs", "--batch-size", 3) == 0
    folder = tmp_path / "runs" / "exp"
    assert files(folder) == [
        *("a.png", "b.png", "c.png", "crops/cat/a.jpg", "crops/cat/c.jpg", "crops/cat/d.jpg"),
        *("crops/dog/a.jpg", "crops/dog/c.jpg", "crops/dog/d.jpg", "d.png"),
        *("labels/a.txt", "labels/c.txt", "labels/d.txt", "predictions.csv", "predictions.json"),
        "progress.jsonl",
    ]
    square = "0 0.75 0.625 0.25 0.25 0.75\n1 0.25 0.25 0.25 0.125 0.5\n"
    assert (folder / "labels/a.txt").read_text() == square
    assert (folder / "labels/d.txt").read_text() == square
    # c is 128 x 64, shrunk to 64 x 32: twice the size, and the second box is cut at the bottom
    wide = "0 0.75 1 0.25 0 0.75\n1 0.25 0.5 0.25 0.25 0.5\n"
    assert (folder / "labels/c.txt").read_text() == wide
    entries = json.loads((folder / "predictions.json").read_text())
    assert [(Path(entry["source"]).name, len(entry["detections"])) for entry in entries] == [
        *[("a.png", 2), ("b.png", 0), ("c.png", 2), ("d.png", 2)]
    ]
    assert entries[0]["detections"] == [
        {"box": [40, 32, 56, 48], "score": 0.75, "class_id": 0, "name": "cat"},
        {"box": [8, 12, 24, 20], "score": 0.5, "class_id": 1, "name": "dog"},
    ]
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["Image Name"], row["Prediction"], row["Confidence"]) for row in rows] == [
        (name, *found)
        for name in ("a.png", "c.png", "d.png")
        for found in (("cat", "0.75"), ("dog", "0.5"))
    ]
    assert [rows[0][key] for key in ("x1", "y1", "x2", "y2")] == ["40.0", "32.0", "56.0", "48.0"]
    content = json.loads(report.read_text())
    assert (content["frames"], content["detections"], content["skipped"]) == (4, 6, [])
    assert list(content) == [
        *("frames", "detections", "skipped", "ms_per_frame", "frames_per_second")
    ]
    assert list(content["ms_per_frame"]) == [
        *("decode", "preprocess", "inference", "postprocess", "write")
    ]
    assert min(content["ms_per_frame"].values()) > 0 and content["frames_per_second"] > 0
    assert (cv2.imread(str(folder / "b.png")) == 0).all()  # nothing drawn
    assert (cv2.imread(str(folder / "a.png")) != 255).any()


@pytest.mark.parametrize(("num_frames", "stride", "seen"), [(6, 1, 6), (6, 4, 2)])
def test_video(tmp_path, weights, num_frames, stride, seen):
    video = save_video(tmp_path / "v.mp4", num_frames, (48, 64), fps=12)
    result = detect(
        config(weights, video, tmp_path, vid_stride=stride, save_txt=True, conf_thres=0.01)
    )
    assert (result.frames, result.skipped) == (seen, ())
    frames, fps = read_video(result.folder / "v.mp4")
    assert len(frames) == seen and frames[0].shape == (48, 64, 3)
    assert fps == pytest.approx(12 / stride)
    labels = sorted(path.name for path in (result.folder / "labels").iterdir())
    assert labels == [f"v_{index}.txt" for index in range(1, num_frames + 1, stride)]


def test_batches_give_what_single_images_give(tmp_path, images, weights):
    found = []
    for batch_size in (1, 2, 32):
        run_config = config(weights, images, tmp_path, batch_size=batch_size, save_json=True)
        found.append((detect(run_config).folder / "predictions.json").read_text())
    assert found[0] == found[1] == found[2]


def test_a_file_of_fixed_size_and_batch(tmp_path, images, caplog):
    path = save_detector(tmp_path / "fixed.onnx", ROWS, input_shape=(3, 3, 64, 64))
    with caplog.at_level(logging.INFO):
        result = detect(config(str(path), images, tmp_path, imgsz=640, save_txt=True))
    assert result.frames == 4
    # c is padded to the square: 16 rows above
    label = (result.folder / "labels/c.txt").read_text().splitlines()[0]
    assert label == "0 0.75 0.75 0.25 0.5"
    assert any("takes 64x64 only, which is used" in each for each in caplog.messages)


def test_thresholds_and_classes(tmp_path, weights, images):
    def found(**changes):
        return detect(config(weights, images / "a.png", tmp_path, **changes)).detections

    assert found() == 2
    assert found(conf_thres=0.5) == 1
    assert found(classes=(1,)) == 1
    assert found(max_det=1) == 1
    assert found(iou_thres=1.0) == 3


def test_unreadable_images_are_counted(tmp_path, weights, images, caplog):
    (images / "bad.jpg").write_bytes(b"\xff\xd8\xff broken")
    report = tmp_path / "report.json"
    arguments = ["--weights", weights, "--source", images, "--img", 64, "--report", report]
    assert run(*arguments, "--project", tmp_path / "runs") == 0
    content = json.loads(report.read_text())
    reason = "not an image that can be decoded"
    assert content["frames"] == 4
    assert content["skipped"] == [{"source": str(images / "bad.jpg"), "reason": reason}]
    assert run(*arguments, "--project", tmp_path / "runs", "--strict") == 2


def test_nothing_but_unreadable_images(tmp_path, weights):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    assert run("--weights", weights, "--source", bad, "--project", tmp_path / "runs") == 1


def test_images_of_one_name_do_not_meet(tmp_path, weights, images):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("a.png", "d.png"):
        (other / name).write_bytes((images / name).read_bytes())
    result = detect(config(weights, f"{tmp_path}/*/*.png", tmp_path, save_txt=True))
    names = files(result.folder)
    assert {"a.png", "a_2.png", "d.png", "d_2.png", "labels/a_2.txt"} < set(names)


def test_folders_are_numbered(tmp_path, weights, images):
    first, second = (detect(config(weights, images, tmp_path)).folder for _ in range(2))
    assert (first.name, second.name) == ("exp", "exp2")
    again = detect(config(weights, images, tmp_path, exist_ok=True, nosave=True)).folder
    assert again == first


def test_console(tmp_path, weights, images, caplog):
    with caplog.at_level(logging.INFO):
        detect(config(weights, images, tmp_path))
    assert caplog.messages[0] == "Image size 64x64 px (--imgsz)"
    lines = [message.rpartition(", ")[0] for message in caplog.messages[1:5]]
    assert lines == [
        f"image 1/4 {images}/a.png: 64x64 1 cat, 1 dog",
        f"image 2/4 {images}/b.png: 64x64 (no detections)",
        f"image 3/4 {images}/c.png: 32x64 1 cat, 1 dog",
        f"image 4/4 {images}/d.png: 64x64 1 cat, 1 dog",
    ]
    assert caplog.messages[5].startswith("4 frames, 6 detections\nms per frame: ")


def test_names_from_the_data_yaml(tmp_path, images):
    path = save_detector(tmp_path / "plain.onnx", ROWS, metadata={})
    with pytest.raises(CheckpointError, match="has no class names inside; give --data"):
        detect(config(str(path), images, tmp_path))
    data = tmp_path / "pets.yaml"
    data.write_text("path: .\ntrain: t\nval: v\nnames: [lynx, wolf]\n")
    result = detect(config(str(path), images, tmp_path, data=str(data), save_crop=True))
    assert "crops/lynx/a.jpg" in files(result.folder)
    data.write_text("path: .\ntrain: t\nval: v\nnames: [lynx]\n")
    with pytest.raises(CheckpointError, match="has 2 classes but there are names for 1"):
        detect(config(str(path), images, tmp_path, data=str(data)))


ERRORS = [
    ({"conf_thres": 1.5}, ConfigError, "--conf-thres 1.5: must be from 0 to 1"),
    ({"iou_thres": -0.1}, ConfigError, "--iou-thres -0.1: must be from 0 to 1"),
    ({"batch_size": 0}, ConfigError, "--batch-size 0: must be at least 1"),
    ({"vid_stride": 0}, ConfigError, "--vid-stride 0: must be at least 1"),
    ({"line_thickness": 101}, ConfigError, "--line-thickness 101: must be from 1 to 100"),
    ({"save_format": 2}, ConfigError, "--save-format 2: must be from 0 to 1"),
    ({"imgsz": (1, 2, 3)}, ConfigError, "--imgsz 1 2 3: expected 2 numbers at most"),
    ({"classes": (1, 2)}, ConfigError, "--classes 1 2: the classes of .* are 0 to 1"),
    ({"half": True}, ConfigError, "--half: .* computes in float32; leave out --half"),
    ({"weights": ("a.onnx", "b.onnx")}, CheckpointError, "a.onnx: no such file"),
    ({"weights": "x.engine"}, CheckpointError, "x.engine: neither a .pt checkpoint nor an .onnx"),
    ({"weights": "gone.onnx"}, CheckpointError, "gone.onnx: no such file"),
    ({"source": "gone"}, DatasetError, "--source gone: no such file or folder"),
]


@pytest.mark.parametrize(("changes", "kind", "message"), ERRORS)
def test_errors(tmp_path, weights, images, changes, kind, message):
    arguments = {"weights": weights, "source": str(images), "project": str(tmp_path / "runs")}
    with pytest.raises(kind, match=message):
        detect(DetectConfig(**{**arguments, **changes}))
    assert not (tmp_path / "runs").exists()


def test_an_error_is_one_line_and_exit_code_2(tmp_path, weights, capsys):
    assert run("--weights", weights, "--source", tmp_path / "gone") == 2
    printed = capsys.readouterr()
    assert printed.err == f"error: --source {tmp_path}/gone: no such file or folder\n"


@pytest.mark.parametrize("flag", ["--update", "--visualize", "--dnn"])
def test_refused_flags(flag, capsys):
    with pytest.raises(SystemExit) as error:
        script.main([flag])
    assert error.value.code == 2 and f"{flag}: " in capsys.readouterr().err


def test_the_command_line_and_the_dataclass_agree():
    assert parse(DetectConfig, [], script.REFUSED) == DetectConfig()
    arguments = [
        "--weights",
        "a.onnx",
        "--imgsz",
        "320",
        "640",
        "--classes",
        "0",
        "2",
        "--conf_thres",
        "0.5",
        "--nosave",
    ]
    parsed = parse(DetectConfig, arguments, script.REFUSED)
    assert (parsed.weights, parsed.imgsz, parsed.classes) == (("a.onnx",), (320, 640), (0, 2))
    assert (parsed.conf_thres, parsed.nosave) == (0.5, True)


def test_an_onnx_file_runs_without_torch(tmp_path, weights, images):
    """In a process of its own, where importing torch fails."""
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['torchvision'] = None\n"
        "from detect import main\n"
        "code = main(sys.argv[1:])\n"
        "loaded = [name for name in sys.modules if name.split('.')[0] == 'torch']\n"
        "assert loaded == ['torch'], loaded\n"
        "sys.exit(code)"
    )
    arguments = ["--weights", weights, "--source", str(images), "--project", str(tmp_path / "runs")]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--save-txt"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (tmp_path / "runs/exp/labels/a.txt").is_file()
