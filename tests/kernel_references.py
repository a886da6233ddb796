"""Composed kernels in many geometries, and how far each is from its layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.conversion.deploy import relative_error
from models.reparam.composed_branch import ComposedBranch
from models.reparam.composed_kernel import ComposedKernel
from models.reparam.families import block_family
from models.reparam.kernel_terms import (
    DepthwiseSeparable,
    FreeKernel,
    KernelTerm,
    PointwiseThenKernel,
    SpreadPointwise,
    StackedKernels,
)
from models.reparam.rep_block import ConvGeometry
from tests.block_equivalence import randomise_norms
from tests.kernel_layers import (
    Filters,
    Layers,
    box,
    convolution,
    convolve,
    depthwise_then_pointwise,
    lopsided,
    pointwise_alone,
    pointwise_then,
    pointwise_then_kernel,
    pointwise_then_pool,
    prior,
    stack,
    tap,
)

BOUND = 1e-12  # relative, in float64


@dataclass(frozen=True, slots=True)
class Kind:
    """A term, the layers it stands for, and the geometries in which those exist."""

    make: Callable[[ConvGeometry], KernelTerm]
    layers: Layers
    allows: Callable[[ConvGeometry], bool] = lambda geometry: True


def can_pool(geometry: ConvGeometry) -> bool:
    """torch pools without dilation, and pads half of the window at most."""
    return geometry.dilation == 1 and geometry.resolved_padding <= geometry.kernel_size // 2


def is_odd(geometry: ConvGeometry) -> bool:
    return geometry.kernel_size % 2 == 1


def is_large(geometry: ConvGeometry) -> bool:
    return geometry.kernel_size > 1


def spread(filters: Filters) -> Callable[[ConvGeometry], KernelTerm]:
    return lambda geometry: SpreadPointwise(geometry, filters(geometry))


KINDS = {
    "free": Kind(FreeKernel, convolution),
    "1x1, average": Kind(spread(box), pointwise_then_pool, can_pool),
    "1x1, centre tap": Kind(spread(tap), pointwise_alone, is_odd),
    "1x1, cosines": Kind(spread(prior), pointwise_then(prior), is_large),
    "1x1, any filters": Kind(spread(lopsided), pointwise_then(lopsided)),
    "1x1, k x k": Kind(PointwiseThenKernel, pointwise_then_kernel),
    "1x1, k x k, widened": Kind(lambda g: PointwiseThenKernel(g, 2), pointwise_then_kernel),
    "separable": Kind(DepthwiseSeparable, depthwise_then_pointwise),
    "separable, 3 filters": Kind(lambda g: DepthwiseSeparable(g, 3), depthwise_then_pointwise),
    "stack": Kind(StackedKernels, stack, is_large),
}
# in, out, kernel, stride, padding, groups, dilation
GEOMETRIES = {
    "in == out": ConvGeometry(4, 4, 3),
    "in != out": ConvGeometry(3, 10, 3),  # more channels than the 8 cosines of a 3x3
    "stride 2": ConvGeometry(4, 6, 3, 2),
    "2 groups": ConvGeometry(4, 6, 3, groups=2),
    "2 groups, stride 2": ConvGeometry(6, 4, 3, 2, groups=2),
    "4 groups, in != out": ConvGeometry(8, 12, 3, groups=4),
    "depthwise": ConvGeometry(6, 6, 3, groups=6),
    "depthwise, 2 filters": ConvGeometry(4, 8, 3, groups=4),
    "one channel": ConvGeometry(1, 1, 3),
    "1x1": ConvGeometry(6, 4, 1),
    "1x1, 2 groups, stride 2": ConvGeometry(4, 6, 1, 2, groups=2),
    "2x2": ConvGeometry(3, 4, 2, 2),
    "4x4": ConvGeometry(3, 4, 4, padding=2),
    "4x4, 2 groups, stride 2": ConvGeometry(4, 6, 4, 2, groups=2),
    "5x5": ConvGeometry(4, 4, 5),
    "5x5, 4 groups, stride 2": ConvGeometry(4, 8, 5, 2, groups=4),
    "6x6, stride 2": ConvGeometry(3, 5, 6, 2, 2),  # the stem of YOLOv5
    "7x7": ConvGeometry(2, 4, 7),
    "7x7, 2 groups": ConvGeometry(4, 6, 7, groups=2),
    "dilated": ConvGeometry(4, 6, 3, dilation=2),
    "dilated, 2 groups, stride 2": ConvGeometry(4, 6, 3, 2, groups=2, dilation=2),
    "dilated 5x5, depthwise": ConvGeometry(3, 3, 5, groups=3, dilation=2),
    "padded more than needed": ConvGeometry(4, 4, 3, padding=2),
    "without padding": ConvGeometry(4, 6, 3, padding=0),
}


@dataclass(frozen=True, slots=True)
class TermCase:
    """One term in one geometry."""

    kind: str
    geometry: ConvGeometry

    def build(self, seed: int = 0) -> KernelTerm:
        """The term in float64, no number of it zero."""
        torch.manual_seed(seed)
        with float64_by_default():
            term = KINDS[self.kind].make(self.geometry)
        randomise(term)
        return term


def term_cases(kind: str) -> dict[str, TermCase]:
    """`kind` in every geometry it allows."""
    return {
        name: TermCase(kind, geometry)
        for name, geometry in GEOMETRIES.items()
        if KINDS[kind].allows(geometry)
    }


@torch.no_grad()
def term_error(case: TermCase) -> float:
    """How far the convolution with a term's kernel is from the term's layers."""
    term, x = case.build(), random_input(case.geometry)
    expected = KINDS[case.kind].layers(term, case.geometry, x)
    found = convolve(x, term.kernel(torch.float64), case.geometry)
    assert expected.shape == found.shape
    return relative_error([expected], [found])


BRANCH_TEXTS = (
    "OREPA", "OREPA(scaling=scalar)", "OREPA(scaling=none)", "OREPA(post_bn=false)", "OREPAVGG",
)  # fmt: skip
LAYERS_BY_NAME: dict[str, Layers] = {
    "origin": convolution,
    "1x1_avg": pointwise_then_pool,
    "1x1_prior": pointwise_then(prior),
    "1x1_kxk": pointwise_then_kernel,
    "1x1_1x1": pointwise_then_kernel,
    "separable": depthwise_then_pointwise,
    "1x1": pointwise_alone,
    "stack": stack,
}


def branch_geometries(text: str) -> dict[str, ConvGeometry]:
    """Those in which `text` has a composed branch, and all of its layers exist."""
    centred = text == "OREPAVGG"  # its 1x1 branch lies on a common centre
    return {
        name: geometry
        for name, geometry in GEOMETRIES.items()
        if can_pool(geometry) and not (centred and (geometry.padding == 0 or not is_odd(geometry)))
    }


@torch.no_grad()
def branch_error(text: str, geometry: ConvGeometry) -> float:
    """How far a block's composed branch is from all of its layers, side by side."""
    torch.manual_seed(0)
    with float64_by_default():
        block = block_family(text, "test").make(geometry, nn.Identity(), identity=True)
    randomise(block)
    randomise_norms(block)
    branch, x = block.eval().branches["kxk"], random_input(geometry)
    expected, found = _in_layers(branch, x), branch(x)
    assert expected.shape == found.shape
    return relative_error([expected], [found])


def _in_layers(branch: ComposedBranch, x: Tensor) -> Tensor:
    """norm(sum of scale * layers + bias), whatever of it there is."""
    kernel, shape = composed_kernel(branch), (1, -1, 1, 1)
    total = torch.zeros((), dtype=x.dtype)
    for name, term in kernel.terms.items():
        maps = LAYERS_BY_NAME[name](term, branch.geometry, x)
        total = total + maps * (kernel.scales[name].view(shape) if name in kernel.scales else 1)
    if branch.bias is not None:
        total = total + branch.bias.view(shape)
    return total if branch.bn is None else branch.bn(total)


def composed_kernel(module: nn.Module) -> ComposedKernel:
    """The only one in a block or branch."""
    (found,) = (child for child in module.modules() if isinstance(child, ComposedKernel))
    return found


def random_input(geometry: ConvGeometry) -> Tensor:
    """(2, in, 9, 10) in float64, with a mean that is not zero."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, geometry.in_channels, 9, 10)
    return torch.randn(shape, generator=generator, dtype=torch.float64) + 0.5


@torch.no_grad()
def randomise(module: nn.Module) -> None:
    """Every parameter: a 1x1 or a scale that starts at zero would hide what it multiplies."""
    for parameter in module.parameters():
        parameter.normal_()


@contextmanager
def float64_by_default() -> Iterator[None]:
    """What is built in here keeps its fixed filters in float64 too, not rounded to float32."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
