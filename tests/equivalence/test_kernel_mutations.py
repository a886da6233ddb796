"""The comparison with layers is able to fail: each way to compose a kernel wrongly is noticed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from models.reparam import algebra
from models.reparam.composed_kernel import ComposedKernel
from models.reparam.families import block_family
from models.reparam.kernel_terms import DepthwiseSeparable, PointwiseThenKernel, SpreadPointwise
from models.reparam.rep_block import ConvGeometry
from tests.kernel_references import (
    BOUND,
    BRANCH_TEXTS,
    KINDS,
    branch_error,
    branch_geometries,
    composed_kernel,
    term_cases,
    term_error,
)

chain_kernels, cosine_filters = algebra.chain_kernels, algebra.cosine_filters
parts = ComposedKernel.parts

SPREAD = ("1x1, average", "1x1, centre tap", "1x1, cosines", "1x1, any filters")
CHAINED = ("1x1, k x k", "1x1, k x k, widened")
SEPARABLE = ("separable", "separable, 3 filters")


# Chains


def correlated(first, second, groups):
    """As if convolving one kernel with the other, which torch's conv2d does not, were right."""
    return chain_kernels(first, second.flip(2, 3), groups)


def result_flipped(first, second, groups):
    """Once more than the transposed convolution has flipped already."""
    return chain_kernels(first, second, groups).flip(2, 3)


def groups_shuffled(first, second, groups):
    order = torch.arange(first.shape[0]).view(groups, -1).t().flatten()
    return chain_kernels(first[order], second, groups)


def groups_forgotten(first, second, groups):
    """Every group through the second kernel's first."""
    out = second.shape[0] // groups
    return chain_kernels(first, second[:out].repeat(groups, 1, 1, 1), groups)


def identity_forgotten(term, dtype):
    first = term.weight_1x1.to(dtype)
    return algebra.chain_kernels(first, term.weight.to(dtype), term.groups)


def identity_in_blocks(term, dtype):
    """Hidden channels beside each other, not one round after the other, repeat an input."""
    hidden, per_group = term.weight_1x1.shape[:2]
    inputs = torch.arange(hidden) % (hidden // term.groups) * per_group
    inputs = inputs // (hidden // term.groups)
    identity = torch.eye(per_group, dtype=dtype)[inputs][:, :, None, None]
    first = term.weight_1x1.to(dtype) + identity
    return algebra.chain_kernels(first, term.weight.to(dtype), term.groups)


# Fixed filters


def spread_with(change: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """A wrong SpreadPointwise.kernel, its filters changed before use."""

    def wrong(term, dtype):
        return term.weight.to(dtype) * change(term.filters.to(dtype))

    wrong.__name__ = f"filters_{change.__name__}"
    return wrong


def transposed(filters):
    return filters.transpose(-1, -2)


def off_centre(filters):
    return filters.roll((1, 1), (-1, -2))


def cut(filters):
    """A window one cell smaller, which has no centre."""
    filters = filters.clone()
    filters[..., -1, :], filters[..., -1] = 0, 0
    return filters


def unscaled(filters):
    """Sums in place of means."""
    return filters / filters.amax((-1, -2), keepdim=True)


def in_reverse(filters):
    return filters.flip(0)


def cosines_transposed(kernel_size):
    return cosine_filters(kernel_size).transpose(1, 2)


def cosines_off_centre(kernel_size):
    return cosine_filters(kernel_size).roll(1, 2)


def cosines_off_the_grid(kernel_size):
    """Without the half: DCT-I for DCT-II."""
    steps = torch.arange(kernel_size, dtype=torch.float64)
    waves = torch.cos(torch.pi * steps[:, None] * steps / kernel_size)
    return torch.einsum("uh,vw->uvhw", waves, waves).flatten(0, 1)[1:]


def cosines_with_the_constant(kernel_size):
    constant = torch.ones(1, kernel_size, kernel_size, dtype=torch.float64)
    return torch.cat((constant, cosine_filters(kernel_size)))[:-1]


# Separable


def expansion_and_inputs_swapped(term, dtype):
    """The 1x1 read as (expansion, inputs) where it is (inputs, expansion)."""
    groups, expansion = term.groups, term.expansion
    pointwise = term.pointwise.to(dtype).reshape(groups, -1, expansion, term_inputs(term))
    return separable(term, dtype, pointwise.transpose(2, 3))


def filters_swapped(term, dtype):
    """The same mistake in the filters."""
    pointwise = term.pointwise.to(dtype).reshape(term.groups, -1, term_inputs(term), term.expansion)
    filters = term.depthwise.to(dtype).unflatten(0, (term.groups, term.expansion, -1))
    return torch.einsum("goie,geihw->goihw", pointwise, filters[:, :, :, 0]).flatten(0, 1)


def one_filter_for_all(term, dtype):
    """The first filter of each input channel alone."""
    pointwise = term.pointwise.to(dtype).reshape(term.groups, -1, term_inputs(term), term.expansion)
    return separable(term, dtype, pointwise * (torch.arange(term.expansion) == 0))


def separable(term, dtype, pointwise):
    """Right, with these (group, out, input, expansion) coefficients."""
    filters = term.depthwise.to(dtype).unflatten(0, (term.groups, -1, term.expansion))
    return torch.einsum("goie,giehw->goihw", pointwise, filters[:, :, :, 0]).flatten(0, 1)


def term_inputs(term) -> int:
    return term.depthwise.shape[0] // term.groups // term.expansion


# where, what is replaced, by what, and the kinds of terms that must notice
MUTATIONS = [
    (algebra, "chain_kernels", correlated, ("stack", *CHAINED)),
    (algebra, "chain_kernels", result_flipped, ("stack", *CHAINED)),
    (algebra, "chain_kernels", groups_shuffled, ("stack", *CHAINED)),
    (algebra, "chain_kernels", groups_forgotten, ("stack", *CHAINED)),
    (PointwiseThenKernel, "kernel", identity_forgotten, CHAINED),
    (PointwiseThenKernel, "kernel", identity_in_blocks, ("1x1, k x k, widened",)),
    (SpreadPointwise, "kernel", spread_with(transposed), ("1x1, cosines", "1x1, any filters")),
    (SpreadPointwise, "kernel", spread_with(off_centre), tuple({*SPREAD} - {"1x1, average"})),
    (SpreadPointwise, "kernel", spread_with(cut), tuple({*SPREAD} - {"1x1, centre tap"})),
    (SpreadPointwise, "kernel", spread_with(unscaled), ("1x1, average",)),
    (SpreadPointwise, "kernel", spread_with(in_reverse), ("1x1, cosines", "1x1, any filters")),
    (DepthwiseSeparable, "kernel", expansion_and_inputs_swapped, SEPARABLE),
    (DepthwiseSeparable, "kernel", filters_swapped, SEPARABLE),
    (DepthwiseSeparable, "kernel", one_filter_for_all, SEPARABLE),
]


def is_noticed(kind: str) -> bool:
    return any(term_error(case) > 10 * BOUND for case in term_cases(kind).values())


def test_nothing_is_noticed_without_a_mutation():
    assert not any(is_noticed(kind) for kind in KINDS)


def test_the_other_way_to_separate_is_right():
    """The mutations of it are its own mistakes, not those of how they are written."""
    for case in term_cases("separable").values():
        term = case.build()
        shape = (term.groups, -1, term_inputs(term), term.expansion)
        again = separable(term, torch.float64, term.pointwise.reshape(shape))
        assert torch.allclose(again, term.kernel(torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("target", "name", "wrong", "kinds"), MUTATIONS, ids=[m[2].__name__ for m in MUTATIONS]
)
def test_a_wrong_term_is_noticed(monkeypatch, target, name, wrong, kinds):
    monkeypatch.setattr(target, name, wrong)
    assert [kind for kind in kinds if not is_noticed(kind)] == []


# The sum, and the filters its terms are made with


def last_term_forgotten(kernel, dtype):
    return dict(list(parts(kernel, dtype).items())[:-1])


def scales_forgotten(kernel, dtype):
    return {name: term.kernel(dtype) for name, term in kernel.terms.items()}


def scales_in_reverse(kernel, dtype):
    """The last output channel's for the first."""
    scales = {name: scale.flip(0).view(-1, 1, 1, 1) for name, scale in kernel.scales.items()}
    return {name: term.kernel(dtype) * scales[name] for name, term in kernel.terms.items()}


def scales_of_the_next_term(kernel, dtype):
    names = list(kernel.terms)
    scales = [kernel.scales[name].view(-1, 1, 1, 1) for name in (*names[1:], names[0])]
    return {
        name: kernel.terms[name].kernel(dtype) * scale
        for name, scale in zip(names, scales, strict=True)
    }


BY_CHANNEL = ("OREPA", "OREPA(post_bn=false)", "OREPAVGG")
SCALED = (*BY_CHANNEL, "OREPA(scaling=scalar)")
# as above; the blocks that must notice
BLOCK_MUTATIONS = [
    (algebra, "cosine_filters", cosines_transposed, BRANCH_TEXTS),
    (algebra, "cosine_filters", cosines_off_centre, BRANCH_TEXTS),
    (algebra, "cosine_filters", cosines_off_the_grid, BRANCH_TEXTS),
    (algebra, "cosine_filters", cosines_with_the_constant, BRANCH_TEXTS),
    (ComposedKernel, "parts", last_term_forgotten, BRANCH_TEXTS),
    (ComposedKernel, "parts", scales_forgotten, SCALED),
    (ComposedKernel, "parts", scales_in_reverse, BY_CHANNEL),
    (ComposedKernel, "parts", scales_of_the_next_term, SCALED),
]


def block_notices(text: str) -> bool:
    return any(branch_error(text, g) > 10 * BOUND for g in branch_geometries(text).values())


def test_no_block_notices_anything_without_a_mutation():
    assert not any(block_notices(text) for text in BRANCH_TEXTS)


@pytest.mark.parametrize(
    ("target", "name", "wrong", "texts"),
    BLOCK_MUTATIONS,
    ids=[m[2].__name__ for m in BLOCK_MUTATIONS],
)
def test_a_wrong_sum_is_noticed(monkeypatch, target, name, wrong, texts):
    monkeypatch.setattr(target, name, wrong)
    assert [text for text in texts if not block_notices(text)] == []


@pytest.mark.parametrize(
    ("target", "name", "wrong", "kind", "geometry"),
    [
        # one cell is its own flip
        (algebra, "chain_kernels", correlated, "1x1, k x k", "1x1"),
        # with one group, or one channel in each, there is nothing to shuffle
        (algebra, "chain_kernels", groups_shuffled, "stack", "7x7"),
        (algebra, "chain_kernels", groups_shuffled, "1x1, k x k", "depthwise"),
        # a single copy of the input has one order
        (PointwiseThenKernel, "kernel", identity_in_blocks, "1x1, k x k", "2 groups"),
        # one input per group
        (DepthwiseSeparable, "kernel", expansion_and_inputs_swapped, "separable", "depthwise"),
        # filters that are alike along both axes
        (SpreadPointwise, "kernel", spread_with(transposed), "1x1, average", "in != out"),
        (SpreadPointwise, "kernel", spread_with(transposed), "1x1, centre tap", "in != out"),
    ],
)
def test_why_all_kinds_and_geometries_are_needed(monkeypatch, target, name, wrong, kind, geometry):
    """Easy cases let wrong kernels pass."""
    monkeypatch.setattr(target, name, wrong)
    assert term_error(term_cases(kind)[geometry]) <= BOUND


def test_why_numbers_are_random(monkeypatch):
    """A fresh block's prior counts nothing: its scale starts at zero."""
    block = block_family("OREPA", "test").make(ConvGeometry(4, 6, 3), nn.SiLU(), identity=True)
    monkeypatch.setattr(SpreadPointwise, "kernel", spread_with(transposed))
    wrong = composed_kernel(block)()
    monkeypatch.undo()
    assert torch.equal(composed_kernel(block)(), wrong)
