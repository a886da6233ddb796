"""RepVGG classifiers' files, of the authors' layout and of timm's, as weights of a backbone."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

from models.checkpoints.loading import initial_model
from models.conversion.deploy import relative_error
from models.network.model_spec import ModelSpec
from tests.error_messages import assert_message
from utils.errors import CheckpointError, ConfigError
from utils.strict_yaml import write_yaml

DEPTHS, WIDTHS = (2, 4, 14, 1), (8, 16, 24, 40)  # A's depths, narrow


def conv_norm(inputs, outputs, kernel, stride):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(outputs)))


class Block(nn.Module):
    """The paper's block in torch's words (fig. 4); `names` are those of the three branches."""

    def __init__(self, inputs, outputs, stride, names):
        super().__init__()
        self.names = names
        self.add_module(names[0], conv_norm(inputs, outputs, 3, stride))
        self.add_module(names[1], conv_norm(inputs, outputs, 1, stride))
        if inputs == outputs and stride == 1:
            self.add_module(names[2], nn.BatchNorm2d(outputs))

    def forward(self, x):
        return sum(getattr(self, n)(x) for n in self.names if hasattr(self, n)).relu()


def classifier(layout, widths=WIDTHS, depths=DEPTHS):
    """Random, in eval mode: modules of the layout's names, and a linear layer at the end."""
    torch.manual_seed(1)
    authors = layout == "authors"
    names = ("rbr_dense", "rbr_1x1", "rbr_identity") if authors else (
        "conv_kxk", "conv_1x1", "identity")  # fmt: skip
    stem = Block(3, widths[0], 2, names)
    stages, inputs = [], widths[0]
    for width, depth in zip(widths, depths, strict=True):
        blocks = [Block(width if i else inputs, width, 1 if i else 2, names) for i in range(depth)]
        stages.append(nn.Sequential(*blocks))
        inputs = width
    parts = (
        {"stage0": stem, **{f"stage{i + 1}": stage for i, stage in enumerate(stages)}}
        if authors
        else {"stem": stem, "stages": nn.Sequential(*stages)}
    )
    parts["linear" if authors else "head"] = nn.Linear(inputs, 5)
    model = nn.ModuleDict(parts).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 1e-3, 1.0)  # small: there eps counts
    return model


def taps(model, x):
    """The outputs at strides 8, 16 and 32."""
    if "stem" in model:
        stages, x = list(model["stages"]), model["stem"](x)
    else:
        stages, x = [model[f"stage{i}"] for i in range(1, 5)], model["stage0"](x)
    outputs = []
    for stage in stages:
        x = stage(x)
        outputs.append(x)
    return outputs[1:]


@pytest.fixture
def cfg(tmp_path):
    """yolov5-repvgg-a1.yaml at other widths."""
    content = ModelSpec.from_file("yolov5-repvgg-a1.yaml").to_yaml()
    widths = {64: 8, 128: 16, 256: 24, 1280: 40}
    for row in content["backbone"]:
        row[3][0] = widths[row[3][0]]
    for row in content["head"]:
        if row[2] in ("Conv", "C3"):
            row[3][0] //= 16
    path = tmp_path / "narrow.yaml"
    write_yaml(path, content)
    return path


def saved(tmp_path, model, wrap=lambda state: state):
    path = tmp_path / "classifier.pth"
    torch.save(wrap(model.state_dict()), path)
    return str(path)


def backbone_taps(detector, x):
    outputs = []
    for layer in detector.layers[: len(detector.spec.backbone)]:
        x = layer(x)
        outputs.append(x)
    return [outputs[index] for index in (4, 6, 7)]


def check(cfg, weights, reference, **overrides):
    start = initial_model(str(cfg), weights, 3, overrides, partial=False)
    assert not start.head_is_trained
    model, reference = start.model.double().eval(), reference.double()
    x = torch.rand(1, 3, 64, 96, dtype=torch.float64)
    # float32 weights: both hold the same numbers but for the rescaled norms
    assert relative_error(taps(reference, x), backbone_taps(model, x)) < 1e-5
    return model


@pytest.mark.parametrize("layout", ["authors", "timm"])
def test_the_backbone_computes_what_the_classifier_did(cfg, tmp_path, layout):
    reference = classifier(layout)
    model = check(cfg, saved(tmp_path, reference), reference)
    kept = model.layers[4][0].branches["1x1"].conv.weight.float()
    block = reference["stage2"][1] if layout == "authors" else reference["stages"][1][1]
    assert torch.equal(kept, block.get_submodule(block.names[1]).conv.weight.float())  # branches


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state},
        lambda state: {"model": state, "epoch": 3},
        lambda state: {f"module.{key}": value for key, value in state.items()},
    ],
)
def test_wrapped_state_dicts(cfg, tmp_path, wrap):
    reference = classifier("authors")
    check(cfg, saved(tmp_path, reference, wrap), reference)


@pytest.mark.parametrize("row", ["OREPAVGG", "DBB", "QARepVGG", "Conv"])
def test_backbones_of_other_blocks_start_from_the_same_function(cfg, tmp_path, row):
    spec = ModelSpec.from_file(cfg).to_yaml()
    for each in spec["backbone"]:
        each[2] = row
        each[3] = each[3] if len(each[3]) > 1 else [*each[3], 3]
    write_yaml(cfg, spec)
    reference = classifier("authors")
    check(cfg, saved(tmp_path, reference), reference)


def test_without_a_yaml(tmp_path):
    weights = saved(tmp_path, classifier("timm"))
    with pytest.raises(ConfigError) as caught:
        initial_model("", weights, 3, {})
    assert_message(str(caught.value), f"{weights}: ", "RepVGG classifier ... --cfg yolov5-repvgg")


def drop(name):
    return lambda state: {key: value for key, value in state.items() if key != name}


def replace(name, value):
    return lambda state: {**state, name: value}


@pytest.mark.parametrize(
    ("model", "wrap", "expected"),
    [
        ({"depths": (2, 4, 13, 1)}, dict, "has 21 blocks ... 22 ... yolov5-repvgg-a1.yaml"),
        ({"widths": (8, 16, 32, 40)}, dict, "stage3.0: its kernel has shape (32, 16, 3, 3)"),
        ({}, drop("stage1.1.rbr_1x1.bn.bias"), "has no stage1.1.rbr_1x1.bn.bias"),
        ({}, drop("stage1.1.rbr_identity.bias"), "has no stage1.1.rbr_identity.bias"),
        (
            {},
            replace("stage0.rbr_1x1.bn.weight", torch.ones(3)),
            "stage0: a norm of 1x1 has not 8 channels",
        ),
    ],
)
def test_other_files_are_refused(cfg, tmp_path, model, wrap, expected):
    weights = saved(tmp_path, classifier("authors", **model), wrap)
    with pytest.raises(CheckpointError) as caught:
        initial_model(str(cfg), weights, 3, {})
    assert_message(str(caught.value), f"{weights}: ", expected)


def test_a_state_dict_of_something_else(cfg, tmp_path):
    weights = saved(tmp_path, nn.Linear(2, 2))
    with pytest.raises(CheckpointError) as caught:
        initial_model(str(cfg), weights, 3, {})
    assert_message(str(caught.value), f"{weights}: ", "weights without their architecture")
