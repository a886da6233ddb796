"""A network is used at the size it was trained with, without a flag, in every script and format."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

import convert
import detect
import export
import val
from models.runtimes.open_runner import open_runner
from tests.checkpoint_builders import save_model, save_yolov5
from tests.model_builders import finding_model, tiny_spec, trained_model
from tests.unit.data.builders import write_yolo_set
from utils.checkpoint import load_checkpoint

SIZE = 96
QUICK = ["--workers", "0", "--device", "cpu"]
AS_MADE = f"Image size {SIZE}x{SIZE} px (as w.pt was made)"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory with a network that finds many objects, and images of 300 px."""
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "w.pt", finding_model(tiny_spec(), 1.5), image_size=SIZE)
    labels = dict.fromkeys("ab", "0 0.5 0.5 0.4 0.4\n")
    write_yolo_set(tmp_path / "set", labels, (200, 300))
    return tmp_path


def found_by_val(weights: str, *flags: str) -> list:
    """Its detections as COCO results."""
    given = ["--weights", weights, "--data", "set/animals.yaml", "--noplots", "--save-json",
             "--exist-ok", "--conf-thres", "0.1", *QUICK, *flags]  # fmt: skip
    assert val.main(given) == 0
    return json.loads(Path(f"runs/val/exp/{Path(weights).stem}_predictions.json").read_text())


def found_by_detect(weights: str, *flags: str) -> list:
    given = ["--weights", weights, "--source", "set/images", "--nosave", "--save-json",
             "--exist-ok", "--device", "cpu", *flags]  # fmt: skip
    assert detect.main(given) == 0
    return json.loads(Path("runs/detect/exp/predictions.json").read_text())


@pytest.mark.parametrize("found_by", [found_by_val, found_by_detect])
def test_a_checkpoint(folder, capsys, found_by):
    found = found_by("w.pt")
    assert AS_MADE in capsys.readouterr().out.splitlines()
    assert found and found == found_by("w.pt", "--imgsz", str(SIZE))
    assert found != found_by("w.pt", "--imgsz", "256")
    assert f"--imgsz 256x256: w.pt was made for {SIZE}x{SIZE}" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--dynamic"]], ids=["fixed", "dynamic"])
def test_an_exported_file(folder, capsys, flags):
    assert export.main(["--weights", "w.pt", *flags]) == 0
    said = capsys.readouterr().out
    assert AS_MADE in said.splitlines()
    shape = onnx.load("w.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [side.dim_value for side in shape][2:] == ([0, 0] if flags else [SIZE, SIZE])
    assert open_runner("w.onnx").known_hw == (SIZE, SIZE)
    for found_by in (found_by_val, found_by_detect):
        capsys.readouterr()
        assert found_by("w.onnx")
        assert f"Image size {SIZE}x{SIZE} px (" in capsys.readouterr().out


def test_export_to_another_size(folder, capsys):
    assert export.main(["--weights", "w.pt", "--imgsz", "160", "192"]) == 0
    assert f"was made for {SIZE}x{SIZE}" in capsys.readouterr().err
    assert open_runner("w.onnx").known_hw == (160, 192)


def test_both_forms_keep_it(folder, capsys):
    assert convert.main(["--weights", "w.pt", "--data", "set/animals.yaml", *QUICK]) == 0
    assert AS_MADE in capsys.readouterr().out.splitlines()
    assert load_checkpoint(Path("w-deploy.pt")).image_size == SIZE
    assert found_by_val("w-deploy.pt")
    assert f"{SIZE}x{SIZE} px (as w-deploy.pt was made)" in capsys.readouterr().out


def test_a_summary(folder, capsys):
    assert export.main(["--summary", "w.pt"]) == 0
    assert AS_MADE in capsys.readouterr().out.splitlines()


def test_a_foreign_checkpoint_says_none(folder, capsys):
    save_yolov5(folder / "y.pt", trained_model(tiny_spec(rep_block=None, activation="SiLU")))
    assert found_by_detect("y.pt") is not None
    printed = capsys.readouterr()
    assert "Image size 640x640 px (default)" in printed.out.splitlines()
    found_by_detect("y.pt", "--imgsz", "64")
    assert "was made for" not in capsys.readouterr().err
    assert convert.main(["--weights", "y.pt", "--to", "native"]) == 0
    assert load_checkpoint(Path("y-native.pt")).image_size is None


def test_8_bits_of_a_network_that_finds_nothing(folder, capsys):
    """A loss of 0.1 points of 2.2 is not a small loss: nobody can tell."""
    given = ["--weights", "w.pt", "--int8", "--data", "set/animals.yaml", "--workers", "0",
             "--calibration", "minmax"]  # fmt: skip
    assert export.main(given) == 0
    printed = capsys.readouterr()
    assert "below 10: it cannot be told what 8 bits lose" in printed.err
    assert "too little AP to tell what 8 bits lose" in printed.out
