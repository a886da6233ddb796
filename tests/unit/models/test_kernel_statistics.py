"""Where a kernel's weight lies, and what each branch adds to it."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from models.conversion.deploy import to_deploy
from models.kernel_statistics import (
    LayerKernels,
    layer_kernels,
    mean_parts,
    mean_similarity,
    skeleton,
)
from models.network.detector import build_model
from models.reparam.algebra import batch_norm_scale_shift
from models.reparam.branched_conv import BranchedConv
from models.reparam.families import FAMILIES, block_family
from models.reparam.rep_block import ConvAct, ConvGeometry
from tests.block_equivalence import BlockCase, norms
from tests.model_builders import tiny_spec, tiny_yaml, trained_model

BOUND = 1e-14  # of the largest weight, in float64

# Parts


def cases(*kinds: str) -> dict[str, BlockCase]:
    return {
        f"{kind}: {name}": BlockCase(kind, *channels, **options)
        for kind in kinds
        for name, (channels, options) in {
            "in == out": ((8, 8), {}),
            "identity off": ((8, 8), {"identity": False}),
            "stride 2": ((8, 8), {"stride": 2}),
            "in != out, 2 groups": ((4, 6), {"groups": 2}),
            "1x1": ((6, 6), {"kernel_size": 1}),
            "5x5": ((4, 4), {"kernel_size": 5}),
        }.items()
    }


def each(found: dict[str, BlockCase]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", found.values(), ids=found.keys())


def largest_error(kernel: torch.Tensor, other: torch.Tensor) -> float:
    """As a fraction of the largest weight."""
    return float((kernel - other).abs().max() / other.abs().max())


WITH_OPTIONS = (
    "ACB(branch_bn=false)",
    "ACB(horizontal=false)",
    "MobileOne(branches=1)",
    "OREPA(post_bn=false)",
    "OREPA(scaling=none)",
    "OREPAVGG(scaling=scalar)",
)


@each(cases(*FAMILIES, *WITH_OPTIONS))
def test_the_parts_sum_to_the_kernel(case):
    block = case.build()
    parts, kernel = block.kernel_parts(), block.equivalent_conv().weight
    assert all(part.shape == kernel.shape for part in parts.values())
    assert all(part.dtype == torch.float64 for part in parts.values())
    assert all(part.abs().max() > 0 for part in parts.values())  # or one could be forgotten
    assert largest_error(sum(parts.values()), kernel) <= BOUND


@torch.no_grad()
def without(block: BranchedConv, part: str) -> BranchedConv:
    """The block with a branch taken out, or with a term of its composed kernel scaled by zero."""
    bare = copy.deepcopy(block)
    if part in bare.branches:
        del bare.branches[part]
    else:
        bare.branches["kxk"].composed.scales[part].zero_()
    return bare


@each(cases(*FAMILIES))
def test_a_part_is_what_the_kernel_loses_without_it(case):
    block = case.build()
    kernel, parts = block.equivalent_conv().weight, block.kernel_parts()
    for name, part in parts.items():
        if len(block.branches) > 1 or name not in block.branches:
            lost = kernel - without(block, name).equivalent_conv().weight
            assert largest_error(lost, part) <= 100 * BOUND


TERMS = ["origin", "1x1_avg", "1x1_prior", "1x1_kxk", "separable"]


@pytest.mark.parametrize(
    ("case", "names"),
    [
        (BlockCase("RepVGG", 4, 4), ["kxk", "1x1", "identity"]),
        (BlockCase("RepVGG", 4, 4, identity=False), ["kxk", "1x1"]),
        (BlockCase("ACB", 4, 4), ["kxk", "1xk", "kx1"]),
        (BlockCase("DBB", 4, 4), ["kxk", "1x1", "1x1_kxk", "1x1_avg"]),
        (BlockCase("MobileOne(branches=2)", 4, 4), ["kxk_0", "kxk_1", "1x1", "identity"]),
        # terms of the one composed branch
        (BlockCase("OREPA", 4, 4), [*TERMS, "1x1"]),
        (BlockCase("OREPA", 4, 4, kernel_size=1), ["origin", "1x1_1x1"]),
        # terms, then the branches beside them
        (BlockCase("OREPAVGG", 4, 4), [*TERMS, "1x1", "identity"]),
        (BlockCase("OREPAVGG", 4, 4, stride=2), [*TERMS, "1x1"]),
    ],
)
def test_names_of_parts(case, names):
    assert list(case.build().kernel_parts()) == names


def test_parts_leave_the_block_as_it_is():
    block = BlockCase("OREPAVGG", 4, 4).build()
    before = {name: tensor.clone() for name, tensor in block.state_dict().items()}
    parts = block.kernel_parts()
    for part in parts.values():
        assert not part.requires_grad
        part.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in block.state_dict().items())


# One layer, by hand


@torch.no_grad()
def hand_made_acb() -> nn.Sequential:
    """One channel: nine ones, -1 across and 2 down; the norm's own scale is 1 over root 1.001."""
    family = block_family("ACB(branch_bn=false)", "test")
    block = family.make(ConvGeometry(1, 1, 3), nn.Identity(), identity=False)
    for name, value in {"kxk": 1.0, "1xk": -1.0, "kx1": 2.0}.items():
        block.branches[name].conv.weight.fill_(value)
    return nn.Sequential(block.double().eval())


def test_a_layer_by_hand():
    """The kernels sum to [1 3 1; 0 2 0; 1 3 1]."""
    (layer,) = layer_kernels(hand_made_acb())
    scale = 1.001**-0.5
    assert (layer.name, layer.block) == ("0", "ACB")
    np.testing.assert_allclose(layer.main, np.ones((3, 3)), rtol=1e-14)  # before the norm
    merged = np.array([[1, 3, 1], [0, 2, 0], [1, 3, 1]])
    np.testing.assert_allclose(layer.merged, scale * merged, rtol=1e-14)
    assert layer.merged_rms == pytest.approx(scale * math.sqrt(26 / 9))
    assert layer.parts == pytest.approx(
        {"kxk": scale, "1xk": scale * math.sqrt(1 / 3), "kx1": scale * 2 * math.sqrt(1 / 3)}
    )
    # a row shares three of nine cells with the square, and one with the column; the sign is gone
    assert layer.similarity == pytest.approx(
        {("kxk", "1xk"): 3**-0.5, ("kxk", "kx1"): 3**-0.5, ("1xk", "kx1"): 1 / 3}
    )


@torch.no_grad()
def conv_act(*filters: list[list[float]]) -> ConvAct:
    """One input channel, an output channel per 3x3 filter."""
    conv = nn.Conv2d(1, len(filters), 3)
    conv.weight.copy_(torch.tensor(filters)[:, None])
    return ConvAct(conv, nn.Identity())


def test_magnitudes_are_means_over_filters():
    """Signs do not cancel."""
    first = [[1.0, 0, 0], [0, -4, 0], [0, 0, 2]]
    second = [[-1.0, 0, 0], [0, 2, 0], [0, 0, 0]]
    (layer,) = layer_kernels(nn.Sequential(conv_act(first, second)))
    assert layer.merged.tolist() == [[1, 0, 0], [0, 3, 0], [0, 0, 1]]
    assert layer.main.tolist() == layer.merged.tolist()


@pytest.mark.parametrize("out_channels", [1, 5])
def test_a_plain_layer_is_its_kernel_times_the_scale_of_its_norm(out_channels):
    block = BlockCase("Conv", 4, out_channels).build()
    weight, norm = block.conv.weight.detach().abs(), block.bn.requires_grad_(False)
    norm.weight[0] = -2.0  # whose sign says nothing
    (layer,) = layer_kernels(nn.Sequential(block))
    np.testing.assert_allclose(layer.main, weight.mean((0, 1)), rtol=1e-13)
    scale, _ = batch_norm_scale_shift(norm)
    scaled = weight * scale.abs().view(-1, 1, 1, 1)
    np.testing.assert_allclose(layer.merged, scaled.mean((0, 1)), rtol=1e-13)
    assert layer.parts == layer.similarity == {}
    if out_channels == 1:  # one scale for all: the same skeleton
        same = skeleton([layer.main])
        np.testing.assert_allclose(skeleton([layer.merged]), same, rtol=1e-13)


# Skeleton


CROSS = np.array([[0.0, 2, 0], [2, 4, 2], [0, 2, 0]])
FLAT = np.full((3, 3), 7.0)


@pytest.mark.parametrize(
    ("grids", "expected"),
    [
        ([FLAT], [[1, 1, 1], [1, 1, 1], [1, 1, 1]]),
        ([CROSS], [[0, 0.5, 0], [0.5, 1, 0.5], [0, 0.5, 0]]),
        ([CROSS, FLAT], [[0.5, 0.75, 0.5], [0.75, 1, 0.75], [0.5, 0.75, 0.5]]),
        # large weights count no more than small ones
        ([1e6 * CROSS, FLAT], [[0.5, 0.75, 0.5], [0.75, 1, 0.75], [0.5, 0.75, 0.5]]),
        # layers need not have their largest weights in one place
        ([np.triu(FLAT), np.tril(FLAT)], [[1, 0.5, 0.5], [0.5, 1, 0.5], [0.5, 0.5, 1]]),
    ],
)
def test_skeleton(grids, expected):
    assert skeleton(grids).tolist() == expected


# Networks


THREE_BY_THREE = [
    "layers.1", "layers.2", "layers.3.m.0.cv2", "layers.4", "layers.5", "layers.9.m.0.cv2",
]  # fmt: skip


@pytest.mark.parametrize(
    ("rep_block", "kind"),
    [
        (None, "ConvBNAct"),
        ("RepVGG", "RepVGG"),
        ("OREPA", "OREPA"),
        # blocks of other sizes are not listed
        ("OREPA(pointwise=true, stem=true)", "OREPA"),
    ],
)
def test_layers_come_in_the_order_of_rows_and_are_3x3(rep_block, kind):
    layers = layer_kernels(trained_model(tiny_spec(rep_block=rep_block)))
    assert [layer.name for layer in layers] == THREE_BY_THREE
    assert {layer.block for layer in layers} == {kind}
    assert {(layer.main.shape, layer.merged.shape) for layer in layers} == {((3, 3), (3, 3))}
    assert all(bool(layer.parts) == (rep_block is not None) for layer in layers)


def test_kinds_side_by_side():
    backbone = tiny_yaml()["backbone"]
    rows = [[-1, 1, family, [32]] for family in reversed(FAMILIES)]
    head = [[len(FAMILIES) + 1, 1, "Detect", []]]
    spec = tiny_spec(
        rep_block=None, anchors=[[10, 13]], backbone=[*backbone[:2], *rows], head=head
    )  # fmt: skip
    kinds = [layer.block for layer in layer_kernels(trained_model(spec))]
    assert kinds == ["ConvBNAct", *reversed(FAMILIES)]


@pytest.mark.parametrize("rep_block", [None, "RepVGG", "OREPAVGG"])
def test_a_deploy_form_has_the_merged_kernels_and_no_parts(rep_block):
    model = trained_model(tiny_spec(rep_block=rep_block)).double()
    before, after = layer_kernels(model), layer_kernels(to_deploy(model))
    assert [layer.name for layer in after] == [layer.name for layer in before]
    for old, new in zip(before, after, strict=True):
        assert (new.block, new.parts, new.similarity) == ("ConvAct", {}, {})
        assert np.array_equal(new.main, new.merged)
        np.testing.assert_allclose(new.merged, old.merged, rtol=1e-13)
        assert new.merged_rms == pytest.approx(old.merged_rms, rel=1e-13)
        assert not np.allclose(old.main, old.merged)


def test_parts_are_those_of_the_block():
    model = trained_model(tiny_spec(rep_block="DBB")).double()
    for layer in layer_kernels(model):
        parts = model.get_submodule(layer.name).kernel_parts()
        assert layer.parts == pytest.approx(
            {name: float(part.square().mean().sqrt()) for name, part in parts.items()}
        )
        assert len(layer.similarity) == len(parts) * (len(parts) - 1) // 2
        assert all(0 <= cosine <= 1 for cosine in layer.similarity.values())


def test_no_3x3_is_no_layer():
    spec = tiny_spec(
        rep_block=None, anchors=[[10, 13]], backbone=[[-1, 1, "Conv", [32, 6, 2, 2]]],
        head=[[0, 1, "Detect", []]],
    )  # fmt: skip
    assert layer_kernels(trained_model(spec)) == []


# Means over layers


def made_layer(
    parts: dict[str, float], similarity: dict[tuple[str, str], float], merged_rms: float = 1.0
) -> LayerKernels:
    grid = np.ones((3, 3))
    return LayerKernels("layers.0", "RepVGG", grid, grid, parts, merged_rms, similarity)


def test_mean_parts_are_shares_of_the_merged_kernel():
    layers = [
        made_layer({"a": 1.0, "b": 3.0}, {}, merged_rms=2.0),
        made_layer({"a": 2.0, "c": 1.0}, {}, merged_rms=8.0),
    ]
    # over the layers that have the branch
    assert mean_parts(layers) == {"a": (1 / 2 + 2 / 8) / 2, "b": 3 / 2, "c": 1 / 8}
    assert mean_parts([]) == {}


def test_mean_similarity_by_hand():
    layers = [
        made_layer({"a": 1.0, "b": 1.0, "c": 1.0}, {("a", "b"): 0.2, ("a", "c"): 0.5}),
        made_layer({"b": 1.0, "a": 1.0}, {("b", "a"): 0.6}),  # the other way round
        made_layer({"d": 1.0}, {}),  # never beside another
    ]
    names, grid = mean_similarity(layers)
    assert names == ["a", "b", "c", "d"]
    expected = np.full((4, 4), np.nan)
    np.fill_diagonal(expected, 1)
    expected[0, 1] = expected[1, 0] = 0.4
    expected[0, 2] = expected[2, 0] = 0.5
    np.testing.assert_allclose(grid, expected)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "RepOpt"])
def test_similarity_of_a_network(family):
    names, grid = mean_similarity(layer_kernels(trained_model(tiny_spec(rep_block=family))))
    assert len(set(names)) == len(names) > 1
    assert grid.shape == (len(names), len(names))
    assert np.array_equal(grid, grid.T)
    assert np.array_equal(np.diag(grid), np.ones(len(names)))
    others = grid[~np.eye(len(names), dtype=bool)]
    assert (others >= 0).all() and (others < 1).all()


def test_a_single_branch_is_like_itself():
    names, grid = mean_similarity(layer_kernels(trained_model(tiny_spec(rep_block="RepOpt"))))
    assert (names, grid.tolist()) == (["kxk"], [[1]])


def test_without_layers_there_is_no_similarity():
    names, grid = mean_similarity([])
    assert (names, grid.shape) == ([], (0, 0))


def test_branches_that_add_nothing_are_like_none():
    """A fresh block is its first branch alone."""
    layers = layer_kernels(build_model(tiny_spec(rep_block="RepVGG")))
    assert all(layer.similarity == {} for layer in layers)
    names, grid = mean_similarity(layers)
    assert names == ["kxk", "1x1", "identity"]
    assert np.array_equal(np.isnan(grid), ~np.eye(3, dtype=bool))
    assert mean_parts(layers) == {"kxk": pytest.approx(1), "1x1": 0, "identity": 0}


def test_one_silent_branch_leaves_the_others():
    block = BlockCase("RepVGG", 4, 4).build()
    block.branches["1x1"].zero_init()
    _, grid = mean_similarity(layer_kernels(nn.Sequential(block)))
    assert np.isnan(grid).tolist() == [
        [False, True, False], [True, False, True], [False, True, False],
    ]  # fmt: skip


def test_layers_of_zeros_do_not_count():
    block = BlockCase("RepVGG", 4, 4).build()
    for norm in norms(block):
        torch.nn.init.zeros_(norm.weight)
    layers = layer_kernels(torch.nn.Sequential(block))
    assert skeleton([layer.merged for layer in layers]).max() == 0
    assert mean_parts(layers) == {}
