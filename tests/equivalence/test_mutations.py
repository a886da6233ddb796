"""The equivalence check is able to fail: each way to convert wrongly is noticed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from models.reparam import algebra, rep_block
from models.reparam.branched_conv import BranchedConv
from models.reparam.branches import PointwiseThenAverage, PointwiseThenConv
from models.reparam.composed_branch import ComposedBranch
from models.reparam.families import FAMILIES
from tests.block_equivalence import FLOAT64_BOUND, BlockCase, block_error, norms
from tests.equivalence.block_cases import CASES, cases_of

scale_shift, fuse_bn, pad_kernel = (
    algebra.batch_norm_scale_shift, algebra.fuse_bn, algebra.pad_kernel,
)  # fmt: skip
identity_kernel, conv_from_params = algebra.identity_kernel, rep_block.conv_from_params
average_kernel, chain = algebra.average_kernel, algebra.chain_1x1_kxk
equivalent_conv = BranchedConv.equivalent_conv
composed = ComposedBranch.kernel_and_bias

EVERY = (*FAMILIES, "Conv")
IDENTITY = ("RepVGG", "MobileOne", "QARepVGG")
# The others have one branch, or compose before they convolve.
SMALLER_KERNEL = tuple({*FAMILIES} - {"OREPA", "LinearAdd", "RepOpt"})


def no_identity(*args):
    return torch.zeros_like(identity_kernel(*args))


def identity_ignores_groups(channels, groups, kernel_size, device):
    per_group = channels // groups
    kernel = torch.zeros(channels, per_group, *kernel_size, dtype=torch.float64)
    filters = torch.arange(channels)
    centre = (kernel_size[0] // 2, kernel_size[1] // 2)
    kernel[(filters, filters.clamp(max=per_group - 1), *centre)] = 1  # instead of modulo
    return kernel


def identity_in_the_corner(*args):
    return identity_kernel(*args).roll((-1, -1), (2, 3))


def off_centre(weight, kernel_size):
    extra = kernel_size[0] - weight.shape[2], kernel_size[1] - weight.shape[3]
    return nn.functional.pad(weight, (0, extra[1], 0, extra[0]))


def height_for_width(weight, kernel_size):
    return pad_kernel(weight, kernel_size).transpose(2, 3)


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


def chain_without_first_bias(first, second, groups):
    return chain((first[0], torch.zeros_like(first[1])), second, groups)


def chain_without_second_bias(first, second, groups):
    return chain(first, (second[0], torch.zeros_like(second[1])), groups)


def chain_with_bias_at_the_centre(first, second, groups):
    """The first bias through the middle tap alone, as if the others never met it."""
    middle = second[0].shape[2] // 2
    tap = second[0][:, :, middle : middle + 1, middle : middle + 1]
    return chain(first, second, groups)[0], chain(first, (tap, second[1]), groups)[1]


def chain_with_groups_shuffled(first, second, groups):
    order = torch.arange(first[0].shape[0]).view(groups, -1).t().flatten()
    return chain((first[0][order], first[1][order]), second, groups)


def average_without_padding(*args):
    """As pooling that leaves the padding out of its count, at the corner."""
    kernel_size = args[2]
    return average_kernel(*args) * kernel_size**2 / ((kernel_size + 1) // 2) ** 2


def average_over_the_group(channels, groups, kernel_size, device):
    kernel = average_kernel(channels, groups, kernel_size, device)
    return kernel.mean(1, keepdim=True).expand_as(kernel)


def post_norm_forgotten(block):
    bare = copy.deepcopy(block)
    bare.post_bn = None
    return equivalent_conv(bare)


def last_branch_forgotten(block):
    bare = copy.deepcopy(block)
    del bare.branches[list(bare.branches)[-1]]
    return equivalent_conv(bare)


def dilation_forgotten(block):
    params = equivalent_conv(block)
    same = params.weight.shape[2] // 2
    return replace(params, dilation=(1, 1), padding=(same, same))


def composed_without_bias(branch):
    bare = copy.deepcopy(branch)
    bare.bias = None
    return composed(bare)


def composed_in_float32(branch):
    kernel, bias = composed(branch)
    return kernel.float().double(), bias


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


# where, what is replaced, by what, and the families that must notice
MUTATIONS = [
    (algebra, "identity_kernel", no_identity, IDENTITY),
    (algebra, "identity_kernel", identity_ignores_groups, IDENTITY),
    (algebra, "identity_kernel", identity_in_the_corner, IDENTITY),
    (algebra, "pad_kernel", off_centre, SMALLER_KERNEL),
    (algebra, "pad_kernel", height_for_width, ("ACB",)),
    (algebra, "batch_norm_scale_shift", one_eps_for_all, EVERY),
    (algebra, "batch_norm_scale_shift", eps_outside_the_root, EVERY),
    (algebra, "batch_norm_scale_shift", no_mean, EVERY),
    (algebra, "batch_norm_scale_shift", no_shift, EVERY),
    (algebra, "batch_norm_scale_shift", positive_scale, EVERY),
    (algebra, "fuse_bn", float32_on_the_way, EVERY),
    (algebra, "fuse_bn", conv_bias_forgotten, ("QARepVGG", "Conv")),
    (algebra, "chain_1x1_kxk", chain_without_first_bias, ("DBB",)),
    (algebra, "chain_1x1_kxk", chain_without_second_bias, ("DBB",)),
    (algebra, "chain_1x1_kxk", chain_with_bias_at_the_centre, ("DBB",)),
    (algebra, "chain_1x1_kxk", chain_with_groups_shuffled, ("DBB",)),
    (algebra, "average_kernel", average_without_padding, ("DBB",)),
    (algebra, "average_kernel", average_over_the_group, ("DBB",)),
    (BranchedConv, "equivalent_conv", post_norm_forgotten, ("QARepVGG", "LinearAdd")),
    (BranchedConv, "equivalent_conv", last_branch_forgotten, SMALLER_KERNEL),
    (BranchedConv, "equivalent_conv", dilation_forgotten, tuple({*FAMILIES} - {"DBB"})),
    (ComposedBranch, "kernel_and_bias", composed_without_bias, ("OREPA(post_bn=false)",)),
    (ComposedBranch, "kernel_and_bias", composed_in_float32, ("OREPA", "OREPAVGG", "LinearAdd")),
    (rep_block, "conv_from_params", bias_dropped, EVERY),
    (rep_block, "conv_from_params", kernel_flipped, EVERY),
]


def cases(kind: str) -> list[BlockCase]:
    return [case for name, case in CASES.items() if name.startswith(f"{kind}: ")]


def is_noticed(kind: str) -> bool:
    return any(block_error(c.build(), c.input()) > 10 * FLOAT64_BOUND for c in cases(kind))


def test_nothing_is_noticed_without_a_mutation():
    assert not any(is_noticed(kind) for kind in EVERY)


@pytest.mark.parametrize(
    ("target", "name", "wrong", "families"), MUTATIONS, ids=[m[2].__name__ for m in MUTATIONS]
)
def test_a_wrong_conversion_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
    target: object,
    name: str,
    wrong: Callable[..., object],
    families: tuple[str, ...],
):
    monkeypatch.setattr(target, name, wrong)
    assert [kind for kind in families if not is_noticed(kind)] == []


def pad_the_second(branch: PointwiseThenConv) -> None:
    branch.conv.padding, branch.conv_1x1.padding = branch.conv_1x1.padding, (0, 0)


def pad_the_pool(branch: PointwiseThenAverage) -> None:
    branch.pool.padding, branch.conv_1x1.padding = branch.conv_1x1.padding[0], (0, 0)


@pytest.mark.parametrize(("name", "move"), [("1x1_kxk", pad_the_second), ("1x1_avg", pad_the_pool)])
def test_zeros_padded_after_the_first_norm_are_noticed(name, move):
    """Only the border shows them."""
    case = replace(cases_of("DBB")["in == out"], hw=(9, 10))
    block, x = case.build(), case.input()
    move(block.branches[name])
    assert block_error(block, x) > 1e-3
    with torch.no_grad():
        difference = block(x) - block.to_deploy()(x)
    assert float(difference[:, :, 1:-1, 1:-1].abs().max()) < FLOAT64_BOUND


@pytest.mark.parametrize(
    ("wrong", "name", "case"),
    [
        # a fresh norm has mean 0 and shift 0, so that its bias is 0
        (no_mean, "batch_norm_scale_shift", CASES["RepVGG: in == out"]),
        # with one group there is nothing to confuse
        (identity_ignores_groups, "identity_kernel", CASES["RepVGG: in == out"]),
        # one channel per group: modulo and clamp agree
        (identity_ignores_groups, "identity_kernel", CASES["RepVGG: depthwise"]),
        # without a bias in between, nothing is lost on the way
        (chain_without_first_bias, "chain_1x1_kxk", CASES["DBB: in == out"]),
    ],
)
def test_why_the_matrix_is_needed(monkeypatch, wrong, name, case: BlockCase):
    """Easy cases let wrong conversions pass."""
    block = case.build()
    for norm in norms(block):
        norm.reset_parameters()
        norm.reset_running_stats()
    monkeypatch.setattr(algebra, name, wrong)
    assert block_error(block, case.input()) <= FLOAT64_BOUND
