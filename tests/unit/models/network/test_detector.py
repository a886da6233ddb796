"""The network as a whole: sizes, shapes, and which convolutions become blocks."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from models.conversion.deploy import to_deploy
from models.network.box_coder import BoxCoder
from models.network.detector import (
    block_counts,
    build_model,
    count_parameters,
    describe_network,
    network_gflops,
)
from models.network.layers import Bottleneck
from models.network.model_spec import ModelSpec
from models.reparam.algebra import BatchNorm
from models.reparam.branched_conv import BranchedConv
from models.reparam.families import FAMILIES
from tests.model_builders import meta_model, tiny_spec, tiny_yaml

# million parameters, GFLOPs at 640 px: YOLOv5's published table
YOLOV5 = {
    "n": (1.872, 4.47), "s": (7.235, 16.43), "m": (21.19, 48.87),
    "l": (46.56, 109.0), "x": (86.75, 205.5),
}  # fmt: skip
BACKBONE = tiny_yaml()["backbone"]


def rep_blocks(model):
    return [module for module in model.modules() if isinstance(module, BranchedConv)]


def conv_shapes(model):
    """Of every convolution in order: weight, stride, padding, dilation, groups."""
    return [
        (tuple(m.weight.shape), m.stride, m.padding, m.dilation, m.groups)
        for m in model.modules()
        if isinstance(m, nn.Conv2d)
    ]


@functools.cache
def plain_network(size):
    """In deploy form, and its GFLOPs."""
    plain = meta_model(f"yolov5{size}.yaml", "deploy")
    return plain, network_gflops(plain)


@pytest.mark.parametrize("size", YOLOV5)
def test_sizes_are_those_of_yolov5(size):
    model = meta_model(f"yolov5{size}.yaml")
    millions, gflops = YOLOV5[size]
    assert count_parameters(model) / 1e6 == pytest.approx(millions, rel=5e-4)
    assert network_gflops(model) == pytest.approx(gflops, rel=2e-3)
    assert rep_blocks(model) == []


@pytest.mark.parametrize("suffix", ["", "-silu"])
@pytest.mark.parametrize("size", YOLOV5)
def test_the_deploy_form_is_a_plain_yolov5(size, suffix):
    model = meta_model(f"repyolov5{size}{suffix}.yaml")
    deployed, (plain, gflops) = to_deploy(model), plain_network(size)
    assert len(rep_blocks(model)) > 0
    assert count_parameters(model) > count_parameters(plain)
    assert conv_shapes(deployed) == conv_shapes(plain)
    assert list(deployed.state_dict()) == list(plain.state_dict())
    assert count_parameters(deployed) == count_parameters(plain)
    assert suffix or network_gflops(deployed) == gflops
    assert all(m.bias is not None for m in deployed.modules() if isinstance(m, nn.Conv2d))
    kind = nn.SiLU if suffix else nn.LeakyReLU
    activations = [m for m in deployed.modules() if isinstance(m, nn.SiLU | nn.LeakyReLU)]
    assert {type(activation) for activation in activations} == {kind}
    assert suffix or {activation.negative_slope for activation in activations} == {0.1}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_becomes_a_plain_yolov5(family):
    plain, gflops = plain_network("n")
    spec = ModelSpec.from_file("yolov5n.yaml").replaced(rep_block=family)
    model = meta_model(spec)
    deployed = to_deploy(model)
    assert block_counts(model) == {"ConvBNAct": 40, family: 17}
    assert block_counts(deployed) == {"ConvAct": 57}
    assert conv_shapes(deployed) == conv_shapes(plain)
    assert list(deployed.state_dict()) == list(plain.state_dict())
    assert not any(isinstance(m, BatchNorm | nn.AvgPool2d) for m in deployed.modules())
    assert all(m.bias is not None for m in deployed.modules() if isinstance(m, nn.Conv2d))
    assert count_parameters(deployed) == count_parameters(plain) < count_parameters(model)
    of_training = network_gflops(model)
    assert network_gflops(deployed) == gflops <= of_training
    # One convolution is learnt, or composed of kernels that cost no matrix product.
    assert (of_training == gflops) == (family in ("RepOpt", "LinearAdd"))


# policy -> blocks, those with identity branch, in repyolov5s
POLICIES = {"all": (17, 11), "downsample": (6, 0), "no-identity-in-residual": (17, 4)}


@pytest.mark.parametrize("policy", POLICIES)
def test_policies(policy):
    spec = ModelSpec.from_file("repyolov5s.yaml").replaced(rep_policy=policy)
    model = meta_model(spec)
    blocks = rep_blocks(model)
    identities = [block for block in blocks if "identity" in block.branches]
    assert (len(blocks), len(identities)) == POLICIES[policy]
    if policy == "downsample":
        assert {block.geometry.stride for block in blocks} == {2}
    bottlenecks = [m for m in model.modules() if isinstance(m, Bottleneck) and m.add]
    assert len(bottlenecks) == 7
    if policy == "no-identity-in-residual":
        assert not any("identity" in b.cv2.branches for b in bottlenecks)


def test_block_counts():
    model = meta_model("repyolov5s.yaml")
    assert block_counts(model) == {"ConvBNAct": 40, "RepVGG": 17}
    assert block_counts(to_deploy(model)) == {"ConvAct": 57}


@pytest.mark.parametrize("hw", [(64, 64), (32, 96), (160, 32)])
@pytest.mark.parametrize("batch", [1, 2])
def test_raw_predictions_have_one_map_per_level(hw, batch):
    model = build_model(tiny_spec(nc=4)).eval()
    with torch.no_grad():
        maps = model(torch.zeros(batch, 3, *hw))
    expected = [(batch, 2 * 9, hw[0] // stride, hw[1] // stride) for stride in (8, 16, 32)]
    assert model.strides == (8, 16, 32)
    assert [tuple(level.shape) for level in maps] == expected


def test_the_head_starts_with_few_objects():
    """About 8 objects in a 640 px image, and 0.6 of a class for each."""
    model = build_model(tiny_spec(nc=80))
    for conv, stride in zip(model.head.m, model.strides, strict=True):
        nn.init.zeros_(conv.weight)
        bias = conv.bias.detach().view(2, 85)
        objects = (bias[:, 4].sigmoid() * (640 / stride) ** 2).mean()
        assert float(objects) == pytest.approx(8, rel=0.5)
        assert float(bias[:, 5:].sigmoid().mean()) == pytest.approx(0.6 / 79, rel=0.2)


def test_intermediate_maps_are_let_go():
    """A map lives until its last reader; an early one that is read late survives till then."""
    head = [[0, 1, "Conv", [32, 3, 2]], [[-1], 1, "Concat", [1]], [-1, 1, "Detect", []]]
    model = build_model(tiny_spec(anchors=[[10, 13]], head=head)).eval()
    assert model.strides == (4,)
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 32, 32))[0].shape == (1, 8, 8, 8)


def test_rows_repeat_after_depth_scaling():
    """3 at depth 0.33 is 1, 9 is 3; a chain of plain rows, or bottlenecks inside C3."""
    rows = [*BACKBONE[:3], [-1, 9, "C3", [32]], *BACKBONE[4:]]
    assert len(build_model(tiny_spec(backbone=rows)).layers[3].m) == 3
    rows[3] = [-1, 9, "Conv", [64, 3]]
    chain = build_model(tiny_spec(backbone=rows)).layers[3]
    assert [m.geometry.in_channels for m in chain] == [8, 16, 16]
    rows[3] = [-1, 1, "C3", [32]]  # 1 is never scaled
    assert len(build_model(tiny_spec(backbone=rows)).layers[3].m) == 1


def test_channels_are_multiples():
    spec = tiny_spec(width_multiple=0.3, channel_multiple=4)
    layers = build_model(spec).layers
    assert layers[0].conv.out_channels == 12  # 32 * 0.3 = 9.6 -> 12
    assert layers[1].geometry.out_channels == 12


def test_every_activation_is_a_module_of_its_own():
    model = build_model(tiny_spec())
    activations = [m for m in model.modules() if isinstance(m, nn.LeakyReLU)]
    convs = sum(isinstance(m, BranchedConv) for m in model.modules())
    assert len(activations) > convs
    assert len({id(m) for m in activations}) == len(activations)


def test_gflops_leave_the_network_alone():
    model = build_model(tiny_spec())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert network_gflops(model, (64, 64)) * 4 == pytest.approx(network_gflops(model, (128, 128)))
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(m._forward_hooks for m in model.modules())
    one = nn.Conv2d(3, 5, 3, padding=1)
    assert network_gflops(one, (10, 20)) == pytest.approx(2 * 10 * 20 * 3 * 5 * 9 / 1e9)


def test_other_anchors_reach_the_spec_and_the_boxes():
    model = build_model(tiny_spec()).eval()
    before = model.spec.anchors
    anchors = tuple(tuple(2 * value for value in level) for level in before)
    other = model.with_anchors(anchors)
    assert other.spec.anchors == BoxCoder.of(other).anchors == anchors
    assert model.spec.anchors == before and not other.training
    assert all(a is b for a, b in zip(model.parameters(), other.parameters(), strict=True))
    with pytest.raises(ValueError, match="are not as many anchors per level"):
        model.with_anchors(anchors[:2])


def test_spp_of_yolov5_v5_is_three_pools_side_by_side():
    backbone = [*BACKBONE[:-1], [-1, 1, "SPP", [64, [5, 9, 13]]]]
    model = build_model(tiny_spec(backbone=backbone)).eval()
    spp = model.layers[len(backbone) - 1]
    x = torch.randn(2, spp.cv1.conv.in_channels, 13, 17)
    first = spp.cv1(x)
    pools = [nn.functional.max_pool2d(first, k, 1, k // 2) for k in (5, 9, 13)]
    expected = spp.cv2(torch.cat((first, *pools), 1))
    torch.testing.assert_close(spp(x), expected, rtol=0, atol=0)


def test_a_network_is_described_at_the_size_of_the_run():
    model = meta_model("yolov5n.yaml")
    for input_hw in ((640, 640), (320, 416)):
        assert describe_network(model, input_hw) == (
            f"Network: 1,872,157 parameters, {network_gflops(model, input_hw):.2f} GFLOPs at "
            f"{input_hw[0]}x{input_hw[1]} px, 57 ConvBNAct, SiLU"
        )
