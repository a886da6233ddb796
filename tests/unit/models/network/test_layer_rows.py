"""Layers that people write into yamls: shapes, both forms, ONNX, and what each computes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.conversion.deploy import is_deployed, relative_error, to_deploy
from models.conversion.expand import expand
from models.export.export_networks import DecodedNetwork
from models.export.onnx_file import OnnxOptions, write_onnx
from models.network.detector import build_model, count_parameters, describe_network
from models.network.layer_registry import LAYERS
from models.network.model_spec import ModelSpec
from models.reparam.families import FAMILIES
from models.reparam.rep_block import RepBlock
from tests.block_equivalence import randomise_norms
from tests.error_messages import assert_message
from tests.model_builders import meta_model
from tests.network_equivalence import equivalence_error
from utils.errors import ConfigError

# Row of 16 input channels -> output channels, stride, 3x3 convolutions that become blocks.
ROWS = {
    "GhostConv": ([-1, 1, "GhostConv", [24, 3, 2]], 24, 2, 1),
    "GhostBottleneck/1": ([-1, 1, "GhostBottleneck", [16]], 16, 1, 0),
    "GhostBottleneck/2": ([-1, 1, "GhostBottleneck", [32, 3, 2]], 32, 2, 2),
    "C3Ghost": ([-1, 2, "C3Ghost", [32]], 32, 1, 0),
    "DWConv": ([-1, 1, "DWConv", [24, 3, 2]], 24, 2, 1),
    "CrossConv": ([-1, 1, "CrossConv", [16, 3, 1, 1, 1.0, True]], 16, 1, 0),
    "CrossConv/2": ([-1, 1, "CrossConv", [24, 5, 2]], 24, 2, 0),
    "C3x": ([-1, 2, "C3x", [32]], 32, 1, 0),
    "MixConv2d": ([-1, 1, "MixConv2d", [24, [1, 3, 5], 2]], 24, 2, 0),
    "MixConv2d by size": ([-1, 1, "MixConv2d", [24, [1, 3], 1, False]], 24, 1, 0),
    "C3TR": ([-1, 2, "C3TR", [32]], 32, 1, 0),
    "C3SPP": ([-1, 1, "C3SPP", [32, [5, 9, 13]]], 32, 1, 0),
    "C2f": ([-1, 2, "C2f", [32, True]], 32, 1, 4),
    "SPPCSPC": ([-1, 1, "SPPCSPC", [32]], 32, 1, 2),
    "BottleneckCSP": ([-1, 2, "BottleneckCSP", [32]], 32, 1, 2),
    "SE": ([-1, 1, "SE", [16, 4]], 16, 1, 0),
    "CBAM": ([-1, 1, "CBAM", [16]], 16, 1, 0),
    "CoordAtt": ([-1, 1, "CoordAtt", [16]], 16, 1, 0),
    "Contract": ([-1, 1, "Contract", [2]], 64, 2, 0),
    "Expand": ([-1, 1, "Expand", [2]], 4, Fraction(1, 2), 0),
    "ConvTranspose2d": ([-1, 1, "nn.ConvTranspose2d", [8, 2, 2]], 8, Fraction(1, 2), 0),
    "DWConvTranspose2d": ([-1, 1, "DWConvTranspose2d", [8, 4, 2, 1]], 8, Fraction(1, 2), 0),
    "MaxPool2d": ([-1, 1, "nn.MaxPool2d", [2]], 16, 2, 0),
    "AvgPool2d": ([-1, 1, "nn.AvgPool2d", [3, 2, 1]], 16, 2, 0),
    "Identity": ([-1, 1, "nn.Identity", []], 16, 1, 0),
    "Shuffle_Block/1": ([-1, 2, "Shuffle_Block", [16, 1]], 16, 1, 2),
    "Shuffle_Block/2": ([-1, 1, "Shuffle_Block", [32, 2]], 32, 2, 2),
    "conv_bn_relu_maxpool": ([-1, 1, "conv_bn_relu_maxpool", [24]], 24, 4, 1),
    "DWConvblock": ([-1, 1, "DWConvblock", [24, 3, 2]], 24, 2, 1),
    "DWConvblock, even": ([-1, 1, "DWConvblock", [24, 4, 2]], 24, 2, 0),
    "CBH": ([-1, 1, "CBH", [24, 3, 2]], 24, 2, 1),
    "CBH, even": ([-1, 1, "CBH", [24, 2, 2]], 24, 2, 0),
    "LC_Block": ([-1, 1, "LC_Block", [24, 2, 5, True]], 24, 2, 0),
    "LC_Block, 3x3": ([-1, 1, "LC_Block", [24, 1, 3, True, "Hardsigmoid"]], 24, 1, 1),
    "Dense": ([-1, 1, "Dense", [24, 1, 0.0]], 24, 1, 0),
    "RepVGGBlock, gated": ([-1, 1, "RepVGGBlock", [32, 3, 1, "None", 1, True]], 32, 1, 1),
    "RepConv": ([-1, 1, "RepConv", [16]], 16, 1, 1),
    "CSPStage": ([-1, 2, "CSPStage", [0.5, 0.5, "Mish"]], 16, 1, 2),
    "TinyCSP": ([-1, 1, "TinyCSP", []], 16, 1, 2),
    "Conv, its own activation": ([-1, 1, "Conv", [24, 3, 2, "None", 1, 1, "Mish"]], 24, 2, 1),
    "Conv, activation before d": ([-1, 1, "Conv", [24, 3, 1, "None", 1, "nn.ReLU()"]], 24, 1, 1),
    "Conv, a pair": ([-1, 1, "Conv", [24, [3, 3]]], 24, 1, 1),
    "MP": ([-1, 1, "MP", []], 16, 2, 0),
    "SP": ([-1, 1, "SP", [5]], 16, 1, 0),
    "ZeroPad2d": ([-1, 1, "nn.ZeroPad2d", [[0, 1, 0, 1]]], 16, 1, 0),
}
each_row = pytest.mark.parametrize("name", ROWS)


def spec_with(row, **changes) -> ModelSpec:
    """A network of one level: stem, the row, head."""
    content = {
        "nc": 2, "depth_multiple": 1.0, "width_multiple": 1.0, "anchors": [[10, 13, 16, 30]],
        "activation": "LeakyReLU(0.1)", "backbone": [[-1, 1, "Conv", [16, 3, 2]], row],
        "head": [[-1, 1, "Detect", ["nc", "anchors"]]],
    }  # fmt: skip
    return ModelSpec.from_yaml({**content, **changes}, "row.yaml")


def random_model(row, **changes):
    torch.manual_seed(0)
    model = build_model(spec_with(row, **changes))
    randomise_norms(model)
    return model.eval()


def test_every_row_that_is_no_block_is_here_or_in_yolov5n():
    used = {row[2].removeprefix("nn.") for row, *_ in ROWS.values()}
    shipped = {row[2].removeprefix("nn.") for name in ("yolov5n.yaml", "repyolov5n.yaml")
               for part in ("backbone", "head")
               for row in getattr(ModelSpec.from_file(name), part)}  # fmt: skip
    elsewhere = {"Focus", "SPP", "Bottleneck", *FAMILIES, "ADD"}  # test_rep_blocks, stem, below
    assert set(LAYERS) - used - shipped - elsewhere == set()


@each_row
def test_channels_and_stride(name):
    row, channels, stride, _ = ROWS[name]
    model = random_model(row)
    head = model.head.m[0]
    assert head.in_channels == channels
    pad = 1 if "Pad" in name else 0
    with torch.no_grad():
        (raw,) = model(torch.rand(2, 3, 32, 64))
    assert raw.shape == (2, 14, 16 / stride + pad, 32 / stride + pad)
    assert model.strides == (2 * stride,)


@each_row
def test_deploy_form(name):
    row, _, _, blocks = ROWS[name]
    model = random_model(row, rep_block="RepVGG").double()
    kinds = [m for m in model.layers[1].modules() if isinstance(m, RepBlock)]
    assert sum(block.kind == "RepVGG" for block in kinds) == blocks
    deployed = to_deploy(model)
    x = torch.rand(2, 3, 32, 64, dtype=torch.float64)
    assert equivalence_error(model, deployed, [x]) < 1e-10
    assert is_deployed(deployed)

    built = build_model(model.spec, form="deploy").double().eval()
    assert {k: v.shape for k, v in built.state_dict().items()} == {
        k: v.shape for k, v in deployed.state_dict().items()
    }
    built.load_state_dict(deployed.state_dict())
    assert equivalence_error(deployed, built, [x]) == 0


@each_row
@pytest.mark.parametrize("form", ["train", "deploy"])
def test_expanded_networks_compute_the_same(name, form):
    plain = random_model(ROWS[name][0]).double()
    source = plain if form == "train" else to_deploy(plain)
    expanded = expand(source, "RepVGG")
    x = torch.rand(1, 3, 32, 64, dtype=torch.float64)
    assert equivalence_error(plain, expanded, [x]) < 1e-10


@each_row
def test_one_step_lowers_the_loss(name):
    model = random_model(ROWS[name][0]).train()
    x, target = torch.rand(2, 3, 16, 16), torch.rand(2, 14, 1, 1)

    def loss() -> torch.Tensor:
        return F.mse_loss(model(x)[0].mean((2, 3), keepdim=True), target)

    before = loss()
    before.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 1e-3 * parameter.grad
    assert loss() < before


@each_row
@pytest.mark.parametrize("opset", [11, 20])  # the oldest and the newest
def test_onnx(name, opset, tmp_path):
    import onnxruntime

    if name == "ZeroPad2d":
        row = [[-1, 1, "nn.ZeroPad2d", [[0, 1, 0, 1]]], [-1, 1, "nn.MaxPool2d", [2, 1, 0]]]
        model = random_model(row[0], backbone=[[-1, 1, "Conv", [16, 3, 2]], *row])
    else:
        model = random_model(ROWS[name][0])
    network = DecodedNetwork(to_deploy(model)).eval()
    path = tmp_path / "row.onnx"
    write_onnx(path, network, OnnxOptions(input_hw=(32, 64), opset=opset), {})
    x = torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        expected = network(x)
    expected = expected if isinstance(expected, torch.Tensor) else expected[0]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {"images": x.numpy()})[0]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4)


# What each computes, by another way


def layer(row, in_channels=16):
    """The row's module alone, random, in eval mode and float64."""
    stem = [-1, 1, "Conv", [in_channels, 1, 2]]
    changes = {"backbone": [stem, row], "channel_multiple": 1}
    return random_model(row, **changes).double().layers[1]


def image(channels=16):
    return torch.rand(2, channels, 6, 8, dtype=torch.float64)


def same(found, expected):
    assert relative_error([expected], [found]) < 1e-12


def test_contract_and_expand_are_inverse_and_ordered_by_row_column_channel():
    x = image(8)
    contract, expand_ = layer([-1, 1, "Contract", [2]], 8), layer([-1, 1, "Expand", [2]], 8)
    corners = [x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    same(contract(x), torch.cat(corners, 1))
    same(expand_(contract(x)), x)


def test_transformer_layer_is_attention_over_positions():
    block = layer([-1, 1, "C3TR", [32]]).m
    x = image(16)
    tokens = x.flatten(2).transpose(1, 2)  # B, positions, channels
    tokens = tokens + F.linear(tokens, block.linear.weight, block.linear.bias)
    first = block.tr[0]
    q, k, v = (
        F.linear(F.linear(tokens, part.weight), w, b)
        for part, w, b in zip(
            (first.q, first.k, first.v), first.ma.in_proj_weight.chunk(3),
            first.ma.in_proj_bias.chunk(3), strict=True,
        )
    )  # fmt: skip
    heads = []
    for h in range(4):
        part = slice(4 * h, 4 * h + 4)
        share = (q[..., part] @ k[..., part].transpose(1, 2) / 2).softmax(-1)
        heads.append(share @ v[..., part])
    y = F.linear(torch.cat(heads, 2), first.ma.out_proj.weight, first.ma.out_proj.bias) + tokens
    y = F.linear(F.linear(y, first.fc1.weight), first.fc2.weight) + y
    same(block(x), y.transpose(1, 2).reshape(x.shape))


def test_coordinate_attention_is_a_factor_for_each_row_and_column():
    module = layer([-1, 1, "CoordAtt", [16]])
    x = image()
    rows = module.conv_h(F.hardswish(module.conv1(x.mean(3, keepdim=True)))).sigmoid()
    columns = module.conv_w(F.hardswish(module.conv1(x.mean(2, keepdim=True)))).sigmoid()
    same(module(x), x * rows * columns)


def test_cbam_weights_channels_then_positions():
    module = layer([-1, 1, "CBAM", [16]])
    x = image()
    mean, largest = (module.expand(module.reduce(pool(x, 1)).relu())
                     for pool in (F.adaptive_avg_pool2d, F.adaptive_max_pool2d))  # fmt: skip
    weighted = x * (mean + largest).sigmoid()
    both = torch.stack((weighted.mean(1), weighted.max(1).values), 1)
    same(module(x), weighted * module.spatial(both).sigmoid())


def test_squeeze_and_excitation_scales_channels():
    module = layer([-1, 1, "SE", [16, 4]])
    x = image()
    factor = module(x) / x
    same(factor, factor[:, :, :1, :1].expand_as(factor))
    assert module.reduce.out_channels == 4


def test_channels_of_mixed_sizes():
    equal = layer([-1, 1, "MixConv2d", [25, [1, 3]]])
    assert [conv.out_channels for conv in equal.m] == [13, 12]
    by_size = layer([-1, 1, "MixConv2d", [100, [1, 3], 1, False]])
    assert [conv.out_channels for conv in by_size.m] == [90, 10]
    x = image()
    same(equal(x), equal.act(equal.bn(torch.cat([conv(x) for conv in equal.m], 1))))


def test_ghost_maps_are_made_of_the_others():
    module = layer([-1, 1, "GhostConv", [24]])
    x = image()
    y = module(x)
    same(y[:, 12:], module.cv2(y[:, :12]))


def test_bottleneck_csp_has_one_norm_over_both_halves():
    module = layer([-1, 1, "BottleneckCSP", [32]])
    x = image()
    both = module.bn(torch.cat((module.cv3(module.m(module.cv1(x))), module.cv2(x)), 1))
    same(module(x), module.cv4(F.leaky_relu(both, 0.1)))
    assert isinstance(module.bn, nn.BatchNorm2d) and module.cv2.bias is None


def test_parameters_of_a_bottleneck_csp_row():
    # 1x1 convs: 16*16 twice and 16*16, norm, bottleneck of 1x1 and 3x3, cv4 32*32
    model = meta_model(spec_with([-1, 1, "BottleneckCSP", [32]]))
    convs = 16 * 16 * 3 + 16 * 16 + 16 * 16 * 9 + 32 * 32
    norms = 2 * (16 + 32 + 16 + 16 + 32)
    assert count_parameters(model.layers[1]) == convs + norms


def test_a_head_reads_cells_of_whole_pixels():
    rows = [[-1, 1, "Conv", [16]], [-1, 1, "nn.Upsample", ["None", 2, "nearest"]]]
    with pytest.raises(ConfigError) as caught:
        build_model(spec_with(rows[0], backbone=rows))
    assert_message(str(caught.value), "row.yaml: head row 0 ", "2 cells per pixel ... one cell")


ERRORS = [
    ([-1, 1, "GhostConv", [25]], "out is 25 ... even"),
    ([-1, 1, "GhostBottleneck", [32]], "out is 32 ... 16 channels at stride 1"),
    ([-1, 1, "GhostBottleneck", [18, 3, 2]], "out is 18 ... multiple of 4"),
    ([-1, 1, "GhostBottleneck", [16, 3, 3]], "s is 3 ... 1, 2"),
    ([-1, 1, "CrossConv", [16, 4]], "k is 4 ... odd"),
    ([-1, 1, "MixConv2d", [16, 3]], "k is 3 ... list"),
    ([-1, 1, "MixConv2d", [16, [1, 9], 1, False]], "k is (1, 9) ... sizes that each get"),
    ([-1, 1, "C3TR", [36]], "4 heads do not divide 18"),
    ([-1, 1, "C3SPP", [32, [5, 9]]], "k is (5, 9) ... [k, 2k - 1, 3k - 2]"),
    ([-1, 1, "SPPCSPC", [32, 1, False, 1, 0.5, [2]]], "k is 2 ... odd"),
    ([-1, 1, "SE", [32]], "out is 32 ... 16 channels, as many as it reads"),
    ([-1, 1, "CBAM", [16, 0]], "ratio is 0 ... at least 1"),
    ([-1, 1, "Expand", [3]], "gain is 3 ... 16 channels"),
    ([-1, 1, "nn.ConvTranspose2d", [8, 3, 2]], "k is 3 ... = 2"),
    ([-1, 1, "nn.ZeroPad2d", [[1, 2]]], "padding is (1, 2) ... four"),
    ([-1, 1, "nn.MaxPool2d", [0]], "k is 0 ... at least 1"),
    ([-1, 1, "nn.MaxPool2d", [3, 2, 2]], "p is 2 ... at most 1, half of the pool"),
    ([-1, 1, "nn.AvgPool2d", [2, 2, 2]], "p is 2 ... at most 1, half of the pool"),
    ([-1, 1, "CSPStage", [0.5, 0.5, 7]], "act is 7 ... an activation, as `ReLU`"),
    ([-1, 1, "BottleneckCSP", [32, True, 1, 0.5, 1.5]], "act is 1.5 ... an activation"),
    ([-1, 1, "C3", [32, True, 1, True]], "e is True ... a factor"),
    ([-1, 1, "C3SPP", [3, [5, 9, 13]]], "e is 0.5 ... two of 3 channels"),
    ([-1, 3, "Concat", [1]], "number is 3 ... 1: Concat joins layers"),
    ([[-1, 0], 2, "ADD", []], "number is 2 ... 1: ADD joins layers"),
]  # fmt: skip


def test_a_map_without_channels_to_halve():
    rows = [[-1, 1, "Conv", [1, 3, 2]], [-1, 1, "SPPF", [32]]]
    with pytest.raises(ConfigError) as caught:
        build_model(spec_with([], backbone=rows, channel_multiple=1))
    assert_message(str(caught.value), "row.yaml: backbone row 1 ", "a map of 1 channel ... 2")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[-1, 1, "nn.MaxPool2d", [3, 1]], [[-1, 0], 1, "Concat", [1]]],
         "backbone row 2 (layer 2, Concat): does not run on images of 32x64 px: Sizes"),
        ([[-1, 1, "nn.MaxPool2d", [24]]],
         "backbone row 1 (layer 1, nn.MaxPool2d): does not run on images of 32x64 px: "),
    ],
)  # fmt: skip
def test_rows_whose_maps_do_not_fit_are_named_when_sizes_are_known(rows, expected):
    model = random_model([], backbone=[[-1, 1, "Conv", [16, 3, 2]], *rows])
    with pytest.raises(ConfigError) as caught:
        describe_network(model, (32, 64))
    assert_message(str(caught.value), "row.yaml: ", expected)


@pytest.mark.parametrize(("row", "expected"), ERRORS)
def test_wrong_arguments(row, expected):
    with pytest.raises(ConfigError) as caught:
        build_model(spec_with(row, channel_multiple=1))
    assert_message(str(caught.value), "row.yaml: backbone row 1 ", expected)


def test_weighted_sum():
    """ADD: the first map plus a weight, 0.5 by default, times the second."""
    rows = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [16]], [[-1, 0], 1, "ADD", []]]
    model = random_model([], backbone=rows)
    first, second = torch.rand(2, 1, 16, 4, 4)
    assert torch.equal(model.layers[2]([first, second]), first + 0.5 * second)
    for row, expected in [
        ([[-1, 0, 0], 1, "ADD", []], "two maps of the same channels and stride"),
        ([[-1, 0], 1, "ADD", ["x"]], "weight is 'x' ... a number"),
    ]:
        with pytest.raises(ConfigError) as caught:
            build_model(spec_with([], backbone=[*rows[:2], row]))
        assert_message(str(caught.value), "row.yaml: backbone row 2 (layer 2, ADD): ", expected)
    with pytest.raises(ConfigError, match="16 channels at stride 4, 16 channels at stride 2"):
        build_model(spec_with([], backbone=[rows[0], [-1, 1, "Conv", [16, 3, 2]], rows[2]]))


def test_channel_shuffle():
    """The channels of both halves alternate; one half of the input passes by."""
    model = random_model([-1, 1, "Shuffle_Block", [16, 1]])
    unit, x = model.layers[1], torch.rand(2, 16, 3, 5)
    y = unit(x)
    assert torch.equal(y[:, ::2], x[:, :8])
    assert torch.equal(y[:, 1::2], unit.branch2(x[:, 8:]))
