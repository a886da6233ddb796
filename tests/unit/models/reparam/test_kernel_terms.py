"""Each part of a composed kernel against the layers it stands for, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.conversion.deploy import relative_error
from models.reparam.algebra import cosine_filters
from models.reparam.families import block_family
from models.reparam.kernel_terms import (
    DepthwiseSeparable,
    FreeKernel,
    PointwiseThenKernel,
    SpreadPointwise,
    StackedKernels,
)
from models.reparam.rep_block import ConvGeometry
from tests.case_loop import for_all
from tests.kernel_layers import cosine, lopsided
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

CASES = {f"{kind}: {name}": case for kind in KINDS for name, case in term_cases(kind).items()}
BRANCHES = {
    f"{text}: {name}": (text, geometry)
    for text in BRANCH_TEXTS
    for name, geometry in branch_geometries(text).items()
}


@for_all(CASES)
def test_a_term_is_its_layers(case):
    """Borders included: no term has a bias, so zeros stay zeros on the way."""
    assert term_error(case) <= BOUND


@for_all(BRANCHES)
def test_a_branch_is_its_layers(branch):
    """All terms of a block side by side, each with its scale, then bias or norm."""
    assert branch_error(*branch) <= BOUND


@for_all(CASES)
def test_shape_and_dtype(case):
    term = case.build()
    exact, single = term.kernel(torch.float64), term.kernel(torch.float32)
    assert exact.shape == single.shape == case.geometry.kernel_shape
    assert (exact.dtype, single.dtype) == (torch.float64, torch.float32)
    assert relative_error([exact], [single]) <= 1e-5
    # In the dtype asked for from the start, not in that of the parameters and cast last.
    rounded = term.float().kernel(torch.float64)
    assert torch.equal(rounded, term.double().kernel(torch.float64))


@for_all(CASES)
def test_every_parameter_takes_part(case):
    term = case.build()
    term.kernel(torch.float64).square().sum().backward()
    assert all(p.grad is not None and p.grad.all() for p in term.parameters())


@for_all(CASES)
def test_only_parameters_are_saved(case):
    """The fixed filters and the identity are made anew: a checkpoint has no room to be wrong."""
    term = case.build()
    assert list(term.state_dict()) == [name for name, _ in term.named_parameters()]


# term, its parameters' shapes in order; 4 -> 6 channels in 2 groups, 3x3 unless told otherwise
GROUPED = ConvGeometry(4, 6, 3, groups=2)
SHAPES = [
    (lambda: FreeKernel(GROUPED), [(6, 2, 3, 3)]),
    (lambda: SpreadPointwise(GROUPED, lopsided(GROUPED)), [(6, 2, 1, 1)]),
    (lambda: PointwiseThenKernel(GROUPED), [(4, 2, 1, 1), (6, 2, 3, 3)]),
    (lambda: PointwiseThenKernel(GROUPED, 2), [(8, 2, 1, 1), (6, 4, 3, 3)]),
    (lambda: DepthwiseSeparable(GROUPED), [(32, 1, 3, 3), (6, 16, 1, 1)]),
    (lambda: DepthwiseSeparable(GROUPED, 3), [(12, 1, 3, 3), (6, 6, 1, 1)]),
    *(
        (lambda size=size: StackedKernels(ConvGeometry(4, 6, size, groups=2)),
         [(6, 2 if i == 0 else 3, side, side) for i, side in enumerate(sides)])
        for size, sides in {
            2: [2], 3: [3], 4: [3, 2], 5: [3, 3], 6: [3, 3, 2], 7: [3, 3, 3],
        }.items()
    ),
]  # fmt: skip


@pytest.mark.parametrize(("make", "shapes"), SHAPES)
def test_shapes_of_the_parameters(make, shapes):
    assert [tuple(parameter.shape) for parameter in make().parameters()] == shapes


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_fresh_pointwise_then_kernel_is_its_second_kernel(groups):
    term = PointwiseThenKernel(ConvGeometry(8, 4, 3, groups=groups))
    assert torch.equal(term.kernel(torch.float32), term.weight)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_fresh_widened_one_adds_up_its_copies(groups):
    """Hidden channels that repeat the same input: their kernels add up."""
    term = PointwiseThenKernel(ConvGeometry(8, 4, 3, groups=groups), widening=2)
    first, second = term.weight.chunk(2, 1)
    assert torch.equal(term.kernel(torch.float32), first + second)


SIZES = [2, 3, 4, 5, 7]


@pytest.mark.parametrize("size", [1, *SIZES])
def test_the_cosines_by_the_formula(size):
    """All frequencies in order but the constant one, which pooling is."""
    filters = cosine_filters(size)
    assert filters.shape == (size * size - 1, size, size) and filters.dtype == torch.float64
    for number, found in enumerate(filters, start=1):
        expected = torch.tensor(cosine(size, number), dtype=torch.float64)
        assert torch.allclose(found, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("size", SIZES)
def test_the_cosines_are_a_basis_without_the_constant(size):
    filters = cosine_filters(size).flatten(1)
    products = filters @ filters.T
    lengths = products.diagonal()
    assert float(lengths.min()) > 0.1  # none is zero
    assert torch.allclose(products, torch.diag(lengths), rtol=0, atol=1e-13)  # so all differ
    assert float(filters.sum(1).abs().max()) < 1e-13


@pytest.mark.parametrize("text", ["OREPA", "OREPAVGG"])
@pytest.mark.parametrize("channels", [1, 2, 7, 8, 9, 17, 64])
def test_no_output_channel_has_an_empty_prior(text, channels):
    """More channels than cosines start again at the first."""
    block = block_family(text, "test").make(ConvGeometry(3, channels, 3), nn.SiLU(), identity=True)
    filters = composed_kernel(block).terms["1x1_prior"].filters
    assert filters.shape == (channels, 1, 3, 3)
    assert float(filters.abs().amax((1, 2, 3)).min()) > 0.1
    assert len(filters.unique(dim=0)) == min(channels, 8)
