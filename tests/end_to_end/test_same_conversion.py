"""What a conversion writes depends on its input alone, and keeps the licence of that."""

from __future__ import annotations

import pytest
import torch

import convert
from models.checkpoints.loading import read_weights
from tests.checkpoint_builders import save_model, save_yolov5
from tests.model_builders import tiny_spec, trained_model
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


@pytest.mark.parametrize("flags", CONVERSIONS, ids=" ".join)
def test_the_same_input_gives_the_same_bytes(tmp_path, flags):
    """Whatever was drawn before."""
    weights = save_model(tmp_path / "w.pt", trained_model(tiny_spec(rep_block=None)))
    files = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        files.append(converted(tmp_path, weights, f"out{seed}", flags).read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("flags", [*CONVERSIONS, ["--to", "native"]], ids=" ".join)
def test_the_licence_of_the_weights_is_kept(tmp_path, flags):
    weights = save_yolov5(
        tmp_path / "y.pt", trained_model(tiny_spec(rep_block=None)), beside={"license": "AGPL-3.0"}
    )
    written = load_checkpoint(converted(tmp_path, weights, "out", flags))
    assert written.config["license"] == read_weights(weights).config["license"] == "AGPL-3.0"
