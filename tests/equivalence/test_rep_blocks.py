"""Every block computes in deploy form what it computes in train form."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.reparam import algebra
from models.reparam.rep_block import ConvAct
from tests.block_equivalence import (
    FLOAT32_BOUND,
    FLOAT64_BOUND,
    BlockCase,
    block_error,
    randomise_norms,
)

CASES = {
    "identity": BlockCase("RepVGG", 8, 8),
    "identity, odd": BlockCase("RepVGG", 8, 8, hw=(5, 9)),
    "identity off": BlockCase("RepVGG", 8, 8, identity=False),
    "in != out": BlockCase("RepVGG", 6, 10),
    "stride 2": BlockCase("RepVGG", 8, 8, stride=2),
    "stride 2, odd": BlockCase("RepVGG", 4, 6, stride=2, hw=(9, 5)),
    "2 groups": BlockCase("RepVGG", 8, 8, groups=2),
    "4 groups, in != out": BlockCase("RepVGG", 8, 12, groups=4),
    "depthwise": BlockCase("RepVGG", 6, 6, groups=6),
    "depthwise, stride 2": BlockCase("RepVGG", 6, 6, stride=2, groups=6),
    "one channel": BlockCase("RepVGG", 1, 1, hw=(3, 3)),
    "input of one cell": BlockCase("RepVGG", 4, 4, hw=(1, 1)),
    "conv 1x1": BlockCase("Conv", 8, 4, kernel_size=1),
    "conv 3x3": BlockCase("Conv", 8, 8),
    "conv 5x5, stride 2": BlockCase("Conv", 4, 8, stride=2, kernel_size=5),
    "conv with bias": BlockCase("Conv", 4, 8, bias=True),
    "conv, 4 groups": BlockCase("Conv", 8, 8, groups=4),
    "conv, depthwise": BlockCase("Conv", 8, 8, groups=8),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@st.composite
def cases(draw: st.DrawFn) -> BlockCase:
    kind = draw(st.sampled_from(["RepVGG", "Conv"]))
    groups = draw(st.sampled_from([1, 2, 4]))
    in_channels = groups * draw(st.integers(1, 3))
    equal = draw(st.booleans())
    return BlockCase(
        kind,
        in_channels,
        in_channels if equal else groups * draw(st.integers(1, 3)),
        stride=draw(st.sampled_from([1, 2])),
        groups=draw(st.sampled_from([groups, in_channels])) if equal else groups,
        kernel_size=3 if kind == "RepVGG" else draw(st.sampled_from([1, 3, 5])),
        hw=(draw(st.integers(3, 17)), draw(st.integers(3, 17))),
        identity=draw(st.booleans()),
        bias=draw(st.booleans()),
    )


@settings(deadline=None, max_examples=100)
@given(case=cases(), seed=st.integers(0, 2**31))
def test_any_block(case, seed):
    assert block_error(case.build(seed), case.input(seed)) <= FLOAT64_BOUND


@each_case
def test_float64(case):
    assert block_error(case.build(), case.input()) <= FLOAT64_BOUND


@each_case
def test_float32(case):
    assert block_error(case.build().float(), case.input().float()) <= FLOAT32_BOUND


@each_case
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_cast_once(case, dtype):
    block = case.build().to(dtype)
    conv, exact = block.to_deploy().conv, block.equivalent_conv()
    assert exact.weight.dtype == exact.bias.dtype == torch.float64
    assert conv.weight.dtype == conv.bias.dtype == dtype
    assert torch.equal(conv.weight, exact.weight.to(dtype))
    assert torch.equal(conv.bias, exact.bias.to(dtype))
    with torch.no_grad():
        assert block.to_deploy()(case.input().to(dtype)).dtype == dtype


@each_case
def test_norms_without_scale_and_shift(case):
    block = case.build()
    for name, norm in list(block.named_children()):
        if isinstance(norm, algebra.BatchNorm):
            setattr(block, name, nn.BatchNorm2d(norm.num_features, eps=1e-3, affine=False))
    randomise_norms(block)
    assert block_error(block.double().eval(), case.input()) <= FLOAT64_BOUND


@each_case
def test_every_norm_keeps_its_own_eps(case):
    block = case.build()
    norms = [norm for norm in block.modules() if isinstance(norm, algebra.BatchNorm)]
    for norm, eps in zip(norms, (0.3, 1e-5, 0.05), strict=False):
        norm.eps = eps
    assert block_error(block, case.input()) <= FLOAT64_BOUND


@each_case
def test_norms_of_several_gpus(case):
    block = nn.SyncBatchNorm.convert_sync_batchnorm(case.build())
    kinds = {type(norm) for norm in block.modules() if isinstance(norm, algebra.BatchNorm)}
    assert kinds == {nn.SyncBatchNorm}
    assert block_error(block, case.input()) <= FLOAT64_BOUND


@each_case
def test_the_block_stays_as_it_is(case):
    block = case.build()
    before = copy.deepcopy(block.state_dict())
    deployed = block.to_deploy()
    with torch.no_grad():
        for parameter in deployed.parameters():
            parameter.add_(1)  # shares no memory with the block either
    after = block.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not block.training


@each_case
def test_the_deploy_form_can_be_trained(case):
    deployed = case.build().to_deploy()
    assert type(deployed) is ConvAct
    assert type(deployed.conv) is nn.Conv2d
    assert [name for name, _ in deployed.named_parameters()] == ["conv.weight", "conv.bias"]
    assert all(p.is_leaf and p.requires_grad for p in deployed.parameters())
    deployed(case.input()).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in deployed.parameters())


@each_case
def test_a_block_that_trains_is_refused(case):
    with pytest.raises(ValueError) as caught:
        case.build().train().to_deploy()
    assert str(caught.value) == (
        "only a block in eval mode has an equivalent convolution; call .eval()"
    )


def test_the_identity_branch_is_where_shapes_allow_it():
    present = {name for name, case in CASES.items() if case.kind == "RepVGG"}
    present = {name for name in present if CASES[name].build().branch_identity is not None}
    assert present == {
        "identity", "identity, odd", "2 groups", "depthwise", "one channel", "input of one cell",
    }  # fmt: skip


def test_a_trained_block():
    """Statistics from real steps instead of random ones."""
    case = BlockCase("RepVGG", 4, 4, hw=(9, 9))
    block = case.build().train()
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    for step in range(5):
        optimizer.zero_grad()
        block(case.input(step)).square().mean().backward()
        optimizer.step()
    assert block_error(block.eval(), case.input(9)) <= FLOAT64_BOUND
