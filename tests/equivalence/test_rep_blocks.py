"""Every block computes in deploy form what it computes in train form."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.conversion.deploy import relative_error
from models.reparam.rep_block import ConvAct, RepBlock
from tests.block_equivalence import (
    FLOAT32_BOUND,
    FLOAT64_BOUND,
    BlockCase,
    block_error,
    norms,
    randomise_norms,
)
from tests.case_loop import for_all
from tests.equivalence.block_cases import (
    CASES,
    KINDS,
    MERGED_FIRST,
    WITH_IDENTITY,
    WITHOUT_NORMS,
    cases_of,
)

built = functools.cache(BlockCase.build)  # for laws that leave the block alone
NORMED = {name: case for name, case in CASES.items() if case.kind != WITHOUT_NORMS}


@st.composite
def any_case(draw: st.DrawFn) -> BlockCase:
    kind = draw(st.sampled_from([*KINDS, "MobileOne(2)"]))
    groups = draw(st.sampled_from([1, 2, 4]))
    in_channels = groups * draw(st.integers(1, 3))
    equal = draw(st.booleans())
    sizes = range(1, 8) if kind in MERGED_FIRST else (1, 3, 5, 7)
    kernel_size = draw(st.sampled_from(sizes))
    dilation = 1 if kind == "DBB" else draw(st.sampled_from([1, 2]))
    extra = draw(st.sampled_from([0, 0, 0, 1]))
    return BlockCase(
        kind,
        in_channels,
        in_channels if equal else groups * draw(st.integers(1, 3)),
        stride=draw(st.sampled_from([1, 2])),
        groups=draw(st.sampled_from([groups, in_channels])) if equal else groups,
        kernel_size=kernel_size,
        padding=dilation * (kernel_size - 1) // 2 + extra,
        dilation=dilation,
        hw=(draw(st.integers(3, 15)), draw(st.integers(3, 15))),
        identity=draw(st.booleans()),
        bias=draw(st.booleans()),
    )


@settings(deadline=None, max_examples=300)
@given(case=any_case(), seed=st.integers(0, 2**31))
def test_any_block(case, seed):
    assert block_error(case.build(seed), case.input(seed)) <= FLOAT64_BOUND


@for_all(CASES)
def test_float64(case):
    assert block_error(built(case), case.input()) <= FLOAT64_BOUND


@for_all(CASES)
def test_float32(case):
    block, x = copied(case), case.input()
    with torch.no_grad():
        exact, single = block(x), block.float()(x.float())
    own = relative_error([exact], [single])
    assert block_error(block, x.float()) <= max(FLOAT32_BOUND, 4 * own)


@for_all(CASES)
def test_half_precision_is_cast_once(case):
    for dtype in (torch.float16, torch.bfloat16):
        block = copied(case).to(dtype)
        deployed, exact = block.to_deploy(), block.equivalent_conv()
        conv = deployed.conv
        assert exact.weight.dtype == exact.bias.dtype == torch.float64
        assert conv.weight.dtype == conv.bias.dtype == dtype
        assert torch.equal(conv.weight, exact.weight.to(dtype))
        assert torch.equal(conv.bias, exact.bias.to(dtype))
        with torch.no_grad():
            assert deployed(case.input().to(dtype)).dtype == dtype


@for_all(NORMED)
def test_norms_without_scale_and_shift(case):
    block = copied(case)
    for module in list(block.modules()):
        for name, norm in norms_among_children(module):
            setattr(module, name, nn.BatchNorm2d(norm.num_features, eps=1e-3, affine=False))
    assert norms(block) and not any(norm.affine for norm in norms(block))
    randomise_norms(block)
    assert block_error(block.double().eval(), case.input()) <= FLOAT64_BOUND


@for_all(NORMED)
def test_every_norm_keeps_its_own_eps(case):
    block = copied(case)
    for number, norm in enumerate(norms(block)):
        norm.eps = (0.3, 1e-5, 0.05)[number % 3] * (1 + number)
    assert block_error(block, case.input()) <= FLOAT64_BOUND


@for_all(NORMED)
def test_norms_of_several_gpus(case):
    block = nn.SyncBatchNorm.convert_sync_batchnorm(copied(case))
    assert {type(norm) for norm in norms(block)} == {nn.SyncBatchNorm}
    assert block_error(block, case.input()) <= FLOAT64_BOUND


@for_all(CASES)
def test_the_block_stays_as_it_is(case):
    block = built(case)
    before = copy.deepcopy(block.state_dict())
    deployed = block.to_deploy()
    with torch.no_grad():
        for parameter in deployed.parameters():
            parameter.add_(1)  # shares no memory with the block either
    after = block.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not block.training


@for_all(CASES)
def test_the_deploy_form_can_be_trained(case):
    deployed = built(case).to_deploy()
    assert type(deployed) is ConvAct
    assert type(deployed.conv) is nn.Conv2d
    assert [name for name, _ in deployed.named_parameters()] == ["conv.weight", "conv.bias"]
    assert all(p.is_leaf and p.requires_grad for p in deployed.parameters())
    deployed(case.input()).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in deployed.parameters())


@for_all(CASES)
def test_the_geometry_is_kept(case):
    conv, geometry = built(case).to_deploy().conv, case.geometry
    plain = geometry.conv(bias=True)
    assert conv.weight.shape == plain.weight.shape
    names = ("stride", "padding", "dilation", "groups", "padding_mode")
    assert {n: getattr(conv, n) for n in names} == {n: getattr(plain, n) for n in names}


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_that_trains_is_refused(kind):
    with pytest.raises(ValueError) as caught:
        BlockCase(kind, 4, 4).build().train().to_deploy()
    assert str(caught.value) == (
        "only a block in eval mode has an equivalent convolution; call .eval()"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_identity_branch_is_where_the_shape_stays(kind):
    present = {name for name, case in cases_of(kind).items() if has_identity(built(case))}
    families = ("RepVGG", "MobileOne", "MobileOne(branches=1)", "QARepVGG", "OREPAVGG")
    assert present == (WITH_IDENTITY if kind in families else set())


@pytest.mark.parametrize("kind", KINDS)
def test_a_trained_block(kind):
    """Statistics from real steps instead of random ones; every parameter takes part in them."""
    case = BlockCase(kind, 4, 4, hw=(9, 9))
    block = case.build().train()
    optimizer = torch.optim.SGD(block.parameters(), lr=0.05)
    for step in range(5):
        optimizer.zero_grad()
        block(case.input(step)).square().mean().backward()
        assert all(p.grad is not None for p in block.parameters())
        optimizer.step()
    assert block_error(block.eval(), case.input(9)) <= FLOAT64_BOUND


def copied(case: BlockCase) -> RepBlock:
    """For laws that change the block."""
    return copy.deepcopy(built(case))


def norms_among_children(module):
    found = norms(module)
    return [(name, child) for name, child in module.named_children() if child in found]


def has_identity(block):
    return "identity" in getattr(block, "branches", {})
