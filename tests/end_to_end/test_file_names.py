"""No file name ends a run: bytes that are no UTF-8, names as long as a file system allows."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import detect
import train
import val
from tests.model_builders import tiny_yaml
from tests.onnx_builders import save_detector
from tests.unit.data.builders import noise
from tests.video_builders import read_video, save_video
from utils.strict_yaml import write_yaml

REPOSITORY = Path(detect.__file__).parent
NO_UTF_8 = os.fsdecode(b"caf\xe9")
LONG = "n" * 251  # with .png 255 bytes
LONG_CJK = "图" * 83  # 249 bytes
NAMES = {"no UTF-8": NO_UTF_8, "long": LONG, "long CJK": LONG_CJK, "script": "фото 图 صورة"}
ROWS = [[16, 16, 16, 8, 1.0, 0.75, 0.25]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_png(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", noise((64, 64), len(path.name)))[1].tobytes())


def plain(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def test_images_of_every_name_are_detected_in(capsys: pytest.CaptureFixture[str]) -> None:
    save_detector(Path("tiny.onnx"), ROWS)
    for name in NAMES.values():
        write_png(Path("images", f"{name}.png"))
    flags = "--weights tiny.onnx --source images --imgsz 64 --conf-thres 0.1 --save-txt --save-crop"
    flags += " --save-csv --save-json --report report.json"

    assert detect.main(flags.split()) == 0

    exp = Path("runs/detect/exp")
    assert len(list(exp.glob("*.png"))) == len(NAMES)
    assert len(list(exp.glob("labels/*.txt"))) == len(NAMES)
    assert len(list(exp.glob("crops/*/*.jpg"))) == len(NAMES)
    assert (exp / f"{NO_UTF_8}.png").is_file()
    assert list(exp.rglob(".writing-*")) == []
    rows = list(csv.DictReader((exp / "predictions.csv").read_text("utf-8").splitlines()))
    assert {row["Image Name"] for row in rows} == {f"{plain(n)}.png" for n in NAMES.values()}
    sources = {e["source"] for e in json.loads((exp / "predictions.json").read_text("utf-8"))}
    assert sources == {f"images/{name}.png" for name in NAMES.values()}
    assert json.loads(Path("report.json").read_text("utf-8"))["frames"] == len(NAMES)
    assert "Logging error" not in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_videos_of_every_name(name: str) -> None:
    save_detector(Path("tiny.onnx"), ROWS)
    save_video(Path("v.mp4"), 3).rename(f"{name}.mp4")
    flags = ["--weights", "tiny.onnx", "--source", f"{name}.mp4", "--imgsz", "64", "--save-txt"]

    assert detect.main([*flags, "--conf-thres", "0.01"]) == 0

    (video,) = Path("runs/detect/exp").glob("*.mp4")
    assert len(read_video(video.rename("out.mp4"))[0]) == 3
    assert len(list(Path("runs/detect/exp/labels").iterdir())) == 3


def test_training_and_validation_of_every_name(capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES.values():
        write_png(Path("images", f"{name}.png"))
        Path("labels").mkdir(exist_ok=True)
        Path("labels", f"{name}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    Path("a.yaml").write_text("train: images\nval: images\nnames: [cat, dog, owl]\n")
    write_yaml(Path("tiny.yaml"), tiny_yaml())
    flags = "--data a.yaml --imgsz 64 --workers 0 --device cpu --batch-size 4"

    assert train.main(f"{flags} --cfg tiny.yaml --epochs 1 --cache disk".split()) == 0
    best = "runs/train/exp/weights/best.pt"
    assert val.main(f"{flags} --weights {best} --save-txt --save-json".split()) == 0

    assert len(list(Path("runs/val/exp/labels").iterdir())) == len(NAMES)
    assert Path("runs/train/exp/train_batch0.jpg").is_file()
    assert "Logging error" not in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_console_of_few_characters_loses_no_line(encoding: str) -> None:
    save_detector(Path("tiny.onnx"), ROWS)
    for name in NAMES.values():
        write_png(Path("images", f"{name}.png"))
    script = [sys.executable, str(REPOSITORY / "detect.py")]
    flags = ["--weights", "tiny.onnx", "--source", "images", "--imgsz", "64", "--nosave"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}

    done = subprocess.run(
        [*script, *flags], capture_output=True, env=environment, check=False, timeout=100
    )

    said = done.stdout.decode(encoding)
    assert done.returncode == 0
    assert b"Logging error" not in done.stderr and b"Traceback" not in done.stderr
    assert said.count("64x64 1 cat") == len(NAMES)
    assert "caf\\udce9.png" in said
    if encoding != "utf-8":
        assert "\\u56fe" in said


def test_a_list_of_names_that_are_no_utf_8() -> None:
    save_detector(Path("tiny.onnx"), ROWS)
    write_png(Path(f"{NO_UTF_8}.png"))
    Path("list.txt").write_bytes(os.fsencode(NO_UTF_8) + b".png\n")

    assert (
        detect.main(["--weights", "tiny.onnx", "--source", "list.txt", "--imgsz", "64", "--strict"])
        == 0
    )

    assert np.fromfile(f"runs/detect/exp/{NO_UTF_8}.png", np.uint8).size
