"""RepVGG classifiers' files, of the authors' layout and of timm's, as weights of a backbone."""

from __future__ import annotations

import copy
import itertools
from collections import OrderedDict

import pytest
import torch
from torch import nn

from models.checkpoints.initial_weights import initial_model
from models.conversion.deploy import relative_error
from models.conversion.norm_statistics import measure_norms
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
        return self.sum_of_branches(x).relu()

    @torch.no_grad()
    def sum_of_branches(self, x):
        return sum(getattr(self, n)(x) for n in self.names if hasattr(self, n))


def merged(model, layout):
    """Its state dict in deploy form: what the branches sum to, by the paper's formulas."""
    name = "rbr_reparam" if layout == "authors" else "reparam_conv"
    state = {}
    for prefix, block in model.named_modules():
        if isinstance(block, Block):
            conv = block.get_submodule(block.names[0]).conv
            probe = torch.zeros(1, conv.in_channels, 3, 3, dtype=torch.float64)
            whole = nn.Conv2d(conv.in_channels, conv.out_channels, 3, conv.stride, 1)
            exact = copy.deepcopy(block).double()
            bias = exact.sum_of_branches(probe)[0, :, 0, 0]
            padded = nn.functional.pad(probe, (2, 2, 2, 2))
            for channel in range(conv.in_channels):
                for row, column in itertools.product(range(3), repeat=2):
                    x = padded.clone()
                    # the tap that the output at (2, 2), or (1, 1) at stride 2, reads there
                    x[0, channel, row + 1, column + 1] = 1
                    centre = 2 // conv.stride[0]
                    value = exact.sum_of_branches(x)[0, :, centre, centre]
                    whole.weight.data[:, channel, row, column] = (value - bias).float()
            state |= {f"{prefix}.{name}.weight": whole.weight.data,
                      f"{prefix}.{name}.bias": bias.float()}  # fmt: skip
    return state


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


@pytest.mark.parametrize("layout", ["authors", "timm"])
@pytest.mark.parametrize("row", ["RepVGG", "OREPAVGG", "Conv"])
def test_files_in_deploy_form(cfg, tmp_path, layout, row):
    use_rows(cfg, row)
    reference = classifier(layout)
    check(cfg, saved(tmp_path, reference, lambda _: merged(reference, layout)), reference)


def test_groups(cfg, tmp_path):
    """As in RepVGG-B1g4: every second block of its stages has groups."""
    spec = ModelSpec.from_file(cfg).to_yaml()
    spec["backbone"][2][3] = [8, 3, 1, None, 4]
    write_yaml(cfg, spec)
    reference = classifier("authors")
    block = reference["stage1"][1]
    for branch in block.names[:2]:
        conv = getattr(block, branch).conv
        getattr(block, branch).conv = nn.Conv2d(
            8, 8, conv.kernel_size, 1, conv.padding, groups=4, bias=False
        )
    check(cfg, saved(tmp_path, reference), reference)


def use_rows(cfg, row):
    """Rows of the backbone become those of another module."""
    spec = ModelSpec.from_file(cfg).to_yaml()
    for each in spec["backbone"]:
        each[2] = row
        each[3] = each[3] if len(each[3]) > 1 else [*each[3], 3]
    write_yaml(cfg, spec)


@pytest.mark.parametrize("row", ["OREPAVGG", "DBB", "QARepVGG", "Conv"])
def test_backbones_of_other_blocks_start_from_the_same_function(cfg, tmp_path, row):
    use_rows(cfg, row)
    reference = classifier("authors")
    check(cfg, saved(tmp_path, reference), reference)


def test_norms_that_are_measured_before_training(cfg, tmp_path):
    """Those of merged branches assume their statistics; those of neck and head start fresh."""
    weights = saved(tmp_path, classifier("authors"))
    assert initial_model(str(cfg), weights, 3, {}).assumed_norms == ()
    use_rows(cfg, "OREPAVGG")
    start = initial_model(str(cfg), weights, 3, {})
    assert start.assumed_norms == tuple(start.model.layers[:8])
    fresh = copy.deepcopy(start.model.layers[8:].state_dict())
    images = [torch.rand(2, 3, 64, 64) for _ in range(2)]
    with torch.no_grad():
        expected = start.model.eval()(images[0])
        norms = sum(isinstance(module, nn.BatchNorm2d) for layer in start.assumed_norms
                    for module in layer.modules())  # fmt: skip
        assert measure_norms(start.model, images, start.assumed_norms) == norms
        assert relative_error(expected, start.model(images[0])) < 1e-5
    assert all(torch.equal(fresh[key], each)
               for key, each in start.model.layers[8:].state_dict().items())  # fmt: skip


def test_without_a_yaml(tmp_path):
    weights = saved(tmp_path, classifier("timm"))
    with pytest.raises(ConfigError) as caught:
        initial_model("", weights, 3, {})
    assert_message(str(caught.value), f"{weights}: ", "RepVGG classifier ... --cfg yolov5-repvgg")


def drop(name):
    """A tensor, or all below a module."""
    return lambda state: {key: value for key, value in state.items()
                          if key != name and not key.startswith(f"{name}.")}  # fmt: skip


def replace(name, value):
    return lambda state: {**state, name: value}


@pytest.mark.parametrize(
    ("model", "wrap", "expected"),
    [
        ({"depths": (2, 4, 13, 1)}, dict, "has 21 blocks ... 22 ... yolov5-repvgg-a1.yaml"),
        ({"widths": (8, 16, 32, 40)}, dict, "stage3.0: its kernel has shape (32, 16, 3, 3)"),
        ({}, drop("stage1.1.rbr_1x1.bn.bias"), "has no stage1.1.rbr_1x1.bn.bias"),
        ({}, drop("stage1.1.rbr_identity.bias"), "has no stage1.1.rbr_identity.bias"),
        ({}, drop("stage2.1.rbr_dense.conv.weight"), "has no stage2.1.rbr_dense.conv.weight"),
        ({}, drop("stage1.1.rbr_identity"), "stage1.1: has no identity branch ... stride 1 one"),
        (
            {},
            replace("stage0.rbr_1x1.bn.weight", torch.ones(3)),
            "stage0: weight of the norm of 1x1 has shape (3,), expected (8,)",
        ),
        (
            {},
            replace("stage0.rbr_1x1.conv.weight", torch.ones(8, 3, 3, 3)),
            "stage0: the 1x1 has shape (8, 3, 3, 3), expected (8, 3, 1, 1)",
        ),
        (
            {},
            replace("stage0.rbr_1x1.bn.bias", torch.full((8,), torch.nan)),
            "stage0.rbr_1x1.bn.bias holds no finite real numbers",
        ),
        (
            {},
            replace("stage0.rbr_1x1.bn.bias", torch.ones(8, dtype=torch.complex64)),
            "stage0.rbr_1x1.bn.bias holds no finite real numbers",
        ),
        (
            {},
            replace("stage0.rbr_1x1.bn.running_var", -torch.ones(8)),
            "stage0.rbr_1x1.bn.running_var is negative",
        ),
        (
            {},
            replace("stage1.0.se.down.weight", torch.ones(1, 16, 1, 1)),
            "stage1.0 has se.down.weight too ... other parts than RepVGG's",
        ),
        (
            {},
            replace("stage0.rbr_reparam.weight", torch.ones(8, 3, 3, 3)),
            "has no stage0.rbr_reparam.bias",
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
