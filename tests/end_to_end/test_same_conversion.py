"""What a conversion writes depends on its input alone, and keeps the licence of that."""

from __future__ import annotations

import onnx
import pytest
import torch

import convert
import export
import train
from models.checkpoints.loading import read_weights
from tests.checkpoint_builders import save_yolov5
from tests.model_builders import tiny_spec, trained_model
from tests.unit.data.builders import write_yolo_set
from utils.checkpoint import load_checkpoint

CONVERSIONS = [
    ["--to", "train", "--rep-block", "RepVGG"],
    ["--to", "train", "--rep-block", "OREPA"],
    ["--to", "deploy"],
    ["--to", "yolov5"],
]


def converted(tmp_path, weights, name, flags):
    output = tmp_path / f"{name}.pt"
    assert convert.main(["--weights", str(weights), "--output", str(output), *flags]) == 0
    return output


@pytest.mark.parametrize("flags", [*CONVERSIONS, ["--to", "native"]], ids=" ".join)
def test_the_same_input_gives_the_same_bytes_and_its_licence(tmp_path, flags):
    """Whatever was drawn before."""
    weights = save_yolov5(
        tmp_path / "y.pt", trained_model(tiny_spec(rep_block=None)), beside={"license": "AGPL-3.0"}
    )
    files = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        files.append(converted(tmp_path, weights, f"out{seed}", flags))
    assert files[0].read_bytes() == files[1].read_bytes()
    written = load_checkpoint(files[0])
    assert written.config["license"] == read_weights(weights).config["license"] == "AGPL-3.0"


def test_the_licence_goes_on_to_what_is_trained(tmp_path, capsys):
    """To all checkpoints, resumed ones too, and from there to files for other programs."""
    weights = save_yolov5(
        tmp_path / "y.pt", trained_model(tiny_spec(rep_block=None)), beside={"license": "AGPL-3.0"}
    )
    data = write_yolo_set(tmp_path / "set", dict.fromkeys("ab", "0 0.5 0.5 0.4 0.4\n"))
    flags = ["--data", data, "--imgsz", 64, "--batch-size", 2, "--workers", 0, "--device", "cpu",
             "--noplots", "--project", tmp_path / "runs"]  # fmt: skip
    start = ["--weights", weights, "--rep-block", "RepVGG", "--epochs", 1]
    assert train.main([str(word) for word in (*start, *flags)]) == 0
    assert "its licence, AGPL-3.0, goes on to the new checkpoints" in capsys.readouterr().out
    saved = tmp_path / "runs" / "exp" / "weights"
    assert train.main(["--resume", str(saved / "last.pt"), "--epochs", "2"]) == 0
    for name in ("last.pt", "best.pt"):
        assert load_checkpoint(saved / name).config["license"] == "AGPL-3.0"
    assert {path.name for path in saved.parent.glob("*.yaml")} == {"hyp.yaml", "opt.yaml"}
    assert export.main(["--weights", str(saved / "best.pt"), "--imgsz", "64"]) == 0
    entries = onnx.load(saved / "best.onnx").metadata_props
    assert {each.key: each.value for each in entries}["license"] == "AGPL-3.0"
