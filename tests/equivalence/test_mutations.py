"""The equivalence check is able to fail: each way to convert wrongly is noticed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from models.reparam import algebra, rep_block
from tests.block_equivalence import FLOAT64_BOUND, BlockCase, block_error
from tests.equivalence.test_rep_blocks import CASES

scale_shift, fuse_bn = algebra.batch_norm_scale_shift, algebra.fuse_bn
identity_kernel, conv_from_params = algebra.identity_kernel, rep_block.conv_from_params


def no_identity(*args):
    return torch.zeros_like(identity_kernel(*args))


def identity_ignores_groups(channels, groups, kernel_size, device):
    per_group = channels // groups
    kernel = torch.zeros(channels, per_group, *kernel_size, dtype=torch.float64)
    filters = torch.arange(channels)
    kernel[filters, filters.clamp(max=per_group - 1), 1, 1] = 1  # instead of modulo
    return kernel


def identity_in_the_corner(*args):
    return identity_kernel(*args).roll((-1, -1), (2, 3))


def off_centre(weight, kernel_size):
    return nn.functional.pad(weight, (0, 2, 0, 2))


def one_eps_for_all(bn):
    scale, shift = scale_shift(bn)
    other = scale * (bn.running_var + bn.eps).sqrt() / (bn.running_var + 1e-5).sqrt()
    return other, shift


def eps_outside_the_root(bn):
    scale, shift = scale_shift(bn)
    return scale * (bn.running_var + bn.eps).sqrt() / (bn.running_var.sqrt() + bn.eps), shift


def no_mean(bn):
    scale, shift = scale_shift(bn)
    return scale, shift + bn.running_mean * scale


def no_shift(bn):
    scale, shift = scale_shift(bn)
    return scale, shift - bn.bias


def positive_scale(bn):
    scale, shift = scale_shift(bn)
    return scale.abs(), shift


def float32_on_the_way(weight, bias, bn):
    weight, bias = fuse_bn(weight, bias, bn)
    return weight.float().double(), bias.float().double()


def conv_bias_forgotten(weight, bias, bn):
    return fuse_bn(weight, None, bn)


def bias_dropped(params, like):
    conv = conv_from_params(params, like)
    with torch.no_grad():
        conv.bias.zero_()
    return conv


def kernel_flipped(params, like):
    conv = conv_from_params(params, like)
    with torch.no_grad():
        conv.weight.copy_(conv.weight.flip(2))
    return conv


MUTATIONS = [
    (algebra, "identity_kernel", no_identity),
    (algebra, "identity_kernel", identity_ignores_groups),
    (algebra, "identity_kernel", identity_in_the_corner),
    (algebra, "pad_kernel", off_centre),
    (algebra, "batch_norm_scale_shift", one_eps_for_all),
    (algebra, "batch_norm_scale_shift", eps_outside_the_root),
    (algebra, "batch_norm_scale_shift", no_mean),
    (algebra, "batch_norm_scale_shift", no_shift),
    (algebra, "batch_norm_scale_shift", positive_scale),
    (algebra, "fuse_bn", float32_on_the_way),
    (algebra, "fuse_bn", conv_bias_forgotten),
    (rep_block, "conv_from_params", bias_dropped),
    (rep_block, "conv_from_params", kernel_flipped),
]


def worst_error() -> float:
    return max(block_error(case.build(), case.input()) for case in CASES.values())


def test_nothing_is_noticed_without_a_mutation():
    assert worst_error() <= FLOAT64_BOUND


@pytest.mark.parametrize(
    ("module", "name", "wrong"), MUTATIONS, ids=[wrong.__name__ for *_, wrong in MUTATIONS]
)
def test_a_wrong_conversion_is_noticed(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str, wrong: Callable[..., object]
):
    monkeypatch.setattr(module, name, wrong)
    assert worst_error() > 10 * FLOAT64_BOUND


@pytest.mark.parametrize(
    ("wrong", "name", "case"),
    [
        # a fresh norm has mean 0 and shift 0, so that its bias is 0
        (no_mean, "batch_norm_scale_shift", CASES["identity"]),
        # with one group there is nothing to confuse
        (identity_ignores_groups, "identity_kernel", CASES["identity"]),
    ],
)
def test_why_the_matrix_is_needed(monkeypatch, wrong, name, case: BlockCase):
    """Easy cases let wrong conversions pass."""
    block = case.build()
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.reset_parameters()
            norm.reset_running_stats()
    monkeypatch.setattr(algebra, name, wrong)
    assert block_error(block, case.input()) <= FLOAT64_BOUND
