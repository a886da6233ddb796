"""Back to YOLOv5: its names, its layers, and what the network computes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

import convert
from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.checkpoints.yolov5_state_dict import (
    how_to_load,
    load_yolov5,
    save_yolov5,
    yolov5_yaml,
)
from models.conversion.deploy import to_deploy
from models.conversion.yolov5_form import as_yolov5
from models.network.layers import ConvBNAct
from models.network.model_spec import ModelSpec
from models.reparam.rep_block import ConvAct, RepBlock
from tests.checkpoint_builders import checkpoint_of, save_model
from tests.checkpoint_builders import save_yolov5 as save_pickled
from tests.model_builders import tiny_spec, tiny_yaml, trained_model
from tests.network_equivalence import equivalence_error
from utils.errors import CheckpointError
from utils.strict_yaml import read_yaml

INPUTS = [torch.rand(2, 3, 96, 160), torch.rand(1, 3, 64, 64)]
SPECS = {
    "plain": {"rep_block": None, "activation": "SiLU"},
    "RepVGG": {},
    "OREPA, some": {"rep_block": "OREPA(post_bn=true)", "rep_policy": "downsample"},
    "multiples of 16": {"channel_multiple": 16, "activation": "ReLU", "width_multiple": 0.3},
    "rows of blocks": {"rep_block": None, "backbone": [
        [-1, 1, "Focus", [32, 3]], [-1, 1, "RepVGG", [32, 3, 2]], [-1, 1, "DBB", [32, 3, 2]],
        [-1, 2, "RepVGGBlock", [32]], [-1, 1, "Conv", [64, 3, 2]], [-1, 1, "Conv", [64, 3, 2]],
        [-1, 1, "SPP", [64, [5, 9, 13]]]]},
}  # fmt: skip


def model_of(name: str):
    return trained_model(tiny_spec(**SPECS[name]))


@pytest.mark.parametrize("form", ["train", "deploy"])
@pytest.mark.parametrize("name", SPECS)
def test_yolov5s_layers_compute_the_same(name, form):
    model = model_of(name).double()
    given = model if form == "train" else to_deploy(model)
    plain = as_yolov5(given)
    assert equivalence_error(given, plain, INPUTS) < 1e-12
    assert {type(each) for each in plain.modules() if isinstance(each, RepBlock | ConvAct)} == {
        ConvBNAct
    }


def test_norms_of_a_plain_network_stay():
    """So that YOLOv5 can go on training."""
    model = model_of("plain")
    mine, theirs = model.state_dict(), as_yolov5(model).state_dict()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine) and list(mine) == list(theirs)


def test_a_norm_that_changes_nothing_survives_float16():
    """YOLOv5 rounds its checkpoints to float16."""
    plain = as_yolov5(model_of("RepVGG"))
    norm = next(module for module in plain.modules() if isinstance(module, torch.nn.BatchNorm2d))
    assert torch.all((norm.weight / (norm.running_var + norm.eps).sqrt() - 1).abs() < 1e-7)
    half = norm.weight.half().float() / (norm.running_var.half().float() + norm.eps).sqrt()
    assert torch.all((half - 1).abs() < 2e-5)


@pytest.mark.parametrize("name", SPECS)
def test_a_file_is_in_yolov5s_words(name, tmp_path):
    model = as_yolov5(model_of(name))
    save_yolov5(tmp_path / "a.pt", checkpoint_of(model))
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    rows = content["yaml"]["backbone"] + content["yaml"]["head"]
    known = {"Conv", "Focus", "C3", "SPP", "SPPF", "Concat", "nn.Upsample", "Detect"}
    assert {row[2] for row in rows} <= known
    assert not {"channel_multiple", "rep_block", "rep_policy"} & content["yaml"].keys()
    head = f"model.{len(rows) - 1}"
    strides = torch.tensor(model.strides).view(-1, 1, 1)
    pixels = (content["state_dict"][f"{head}.anchors"] * strides).flatten(1)
    torch.testing.assert_close(pixels, torch.tensor(model.spec.anchors))
    names = {key.replace("layers.", "model.", 1) for key in model.state_dict()}
    assert content["state_dict"].keys() == names | {f"{head}.anchors"}
    assert content["names"] == ["cat", "dog", "owl"]


def test_channels_are_what_yolov5_would_make_of_them():
    """It multiplies by width_multiple and rounds up to 8, whatever our multiple was."""
    model = as_yolov5(model_of("multiples of 16"))
    yaml = yolov5_yaml(model.spec)
    for row, layer in zip(yaml["backbone"], model.layers, strict=False):
        if row[2] == "Conv":
            expected = math.ceil(row[3][0] * yaml["width_multiple"] / 8) * 8
            assert layer.conv.out_channels == expected and expected % 16 == 0


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("ReLU", "nn.ReLU()"), ("nn.LeakyReLU(0.1)", "nn.LeakyReLU(0.1)"), ("SiLU", None),
     ("LeakyReLU(negative_slope=0.2, inplace=true)",
      "nn.LeakyReLU(negative_slope=0.2, inplace=True)"), ("nn.SiLU()", None)],
)  # fmt: skip
def test_activations_are_calls(ours, theirs):
    """YOLOv5 evaluates the text: a class alone would not be called."""
    yaml = yolov5_yaml(ModelSpec.from_yaml(tiny_yaml(activation=ours), "a.yaml"))
    assert yaml.get("activation") == theirs


def test_our_own_reader_takes_the_file_too(tmp_path):
    model = model_of("RepVGG")
    save_yolov5(tmp_path / "a.pt", checkpoint_of(as_yolov5(model), image_size=320))
    read = read_weights(tmp_path / "a.pt")
    assert read.image_size == 320
    assert equivalence_error(model, build_from_checkpoint(read), INPUTS) < 1e-5
    again = build_from_checkpoint(load_yolov5(tmp_path / "a.pt"))
    assert equivalence_error(model, again, INPUTS) < 1e-5


def test_what_is_no_such_file(tmp_path):
    save_model(tmp_path / "a.pt", model_of("plain"))
    with pytest.raises(CheckpointError, match=r"a\.pt: has no names, state_dict, yaml"):
        load_yolov5(tmp_path / "a.pt")


@pytest.mark.parametrize("form", ["train", "deploy", "yolov5"])
def test_convert_writes_the_file_and_the_yaml(form, tmp_path, capsys):
    model = model_of("plain" if form == "yolov5" else "RepVGG")
    weights = tmp_path / "my weights.pt"
    if form == "yolov5":  # there and back again
        save_pickled(weights, model, dtype=torch.float32)
    else:
        save_model(weights, model if form == "train" else to_deploy(model), form)
    flags = ["--weights", str(weights), "--to", "yolov5", "--report", str(tmp_path / "r.json")]
    assert convert.main(flags) == 0
    output = tmp_path / "my weights-yolov5.pt"
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["output"] == str(output)
    assert max(report["max_rel_error"].values()) < 1e-5
    assert equivalence_error(model, build_from_checkpoint(load_yolov5(output)), INPUTS) < 1e-5
    content = torch.load(output, weights_only=True)
    assert read_yaml(output.with_suffix(".yaml")) == content["yaml"]
    assert how_to_load(output) in capsys.readouterr().out


def test_the_lines_to_load_it_are_python():
    lines = how_to_load(Path("it's.pt"))
    compile(lines.partition("\n\n")[2], "lines", "exec")
