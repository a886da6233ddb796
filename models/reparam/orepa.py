"""OREPA: branches that are merged before the convolution, which then runs once.

Hu et al., "Online Convolutional Re-parameterization", CVPR 2022. The starting weights and scales of
`start=paper` are the article's authors'.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from models.reparam import algebra
from models.reparam.branched_conv import BranchedConv
from models.reparam.branches import Branch, ConvBranch, IdentityBranch
from models.reparam.composed_branch import ComposedBranch
from models.reparam.composed_kernel import SCALINGS, ComposedKernel, ScaledTerm
from models.reparam.kernel_terms import (
    CONV_SLOPE,
    DepthwiseSeparable,
    FreeKernel,
    PointwiseThenKernel,
    SpreadPointwise,
    StackedKernels,
)
from models.reparam.rep_block import ConvGeometry

# With the plain start all scales are this much smaller. Otherwise a step of SGD would move the sum
# of the terms, all of which learn, 1.45 times as far as a plain convolution's kernel.
SLOWED = 1.45**-0.5
FEW_GROUPS = 4  # above this, the layer between 1x1 and k x k is twice as wide


def orepa(
    geometry: ConvGeometry,
    activation: nn.Module,
    *,
    identity: bool,
    scaling: str = "vector",
    post_bn: bool = True,
    start: str = "plain",
) -> BranchedConv:
    """OREPA (fig. 4): every branch scaled by channel, merged, one convolution, one norm.

    A 3x3 kernel has six terms, a 1x1 two; a larger one is its deep linear stem (sec. 4.1), which
    has a free kernel beside the stack so that it can represent any convolution.

    Args:
        geometry: of the convolution.
        activation: applied last.
        identity: has no effect: the 1x1 before the k x k starts as one.
        scaling: "vector" (per output channel), "scalar" (per term) or "none".
        post_bn: whether a batch-norm follows; otherwise the convolution has a bias.
        start: "plain" starts with a plain convolution's kernel, which a step of SGD moves as far as
            a plain one; "paper" has the authors' weights and scales, with which the merged kernel
            is about three times as large as a plain one and turns as much more slowly.
    """
    del identity
    if type(post_bn) is not bool:
        raise ValueError(f"OREPA: post_bn is {post_bn!r}, expected true or false")
    size, slope = geometry.kernel_size, _slope(start)
    terms = {1: _pointwise_terms, 3: _kxk_terms}.get(size, _stem_terms)(geometry, slope)
    if size == 3:
        centre = algebra.pad_kernel(torch.ones(1, 1, 1, 1), (3, 3))[0]
        terms["1x1"] = ScaledTerm(SpreadPointwise(geometry, centre, slope), 1.0)
    kernel = _composed("OREPA", terms, geometry, scaling, start)
    branch = ComposedBranch(geometry, kernel, norm=False, bias=not post_bn)
    return BranchedConv(
        "OREPA", geometry, {"kxk": branch}, activation, post_norm=post_bn, start=start
    )


def orepa_vgg(
    geometry: ConvGeometry,
    activation: nn.Module,
    *,
    identity: bool,
    scaling: str = "vector",
    start: str = "plain",
) -> BranchedConv:
    """OREPA for RepVGG-style networks (sec. 4.4): RepVGG whose k x k kernel is composed.

    Args:
        geometry: of the convolution.
        activation: applied last.
        identity: whether an identity branch is wanted.
        scaling: as in `orepa`.
        start: of the composed kernel as in `orepa`, of the three branches as in `BranchedConv`.
    """
    make_terms = _pointwise_terms if geometry.kernel_size == 1 else _kxk_terms
    kernel = _composed("OREPAVGG", make_terms(geometry, _slope(start)), geometry, scaling, start)
    branches: dict[str, Branch] = {
        "kxk": ComposedBranch(geometry, kernel, norm=True),
        "1x1": ConvBranch(geometry, (1, 1)),
    }
    if identity and geometry.keeps_shape:
        branches["identity"] = IdentityBranch(geometry)
    return BranchedConv("OREPAVGG", geometry, branches, activation, start=start)


def _slope(start: str) -> float:
    """Of the terms' weights: torch's for convolutions, or the authors', who start them larger."""
    return CONV_SLOPE if start == "plain" else 0.0


def _composed(
    family: str, terms: dict[str, ScaledTerm], geometry: ConvGeometry, scaling: str, start: str
) -> ComposedKernel:
    if scaling not in SCALINGS:
        raise ValueError(f"{family}: scaling is {scaling!r}, expected one of {', '.join(SCALINGS)}")
    if start != "plain":
        return ComposedKernel(terms, geometry.out_channels, scaling)
    terms["origin"] = replace(terms["origin"], scale=1.0)
    slower = {name: replace(term, scale=SLOWED * term.scale) for name, term in terms.items()}
    kernel = ComposedKernel(slower, geometry.out_channels, scaling)
    kernel.set_kernel(geometry.conv(bias=False).weight)
    return kernel


def _kxk_terms(geometry: ConvGeometry, slope: float) -> dict[str, ScaledTerm]:
    """The terms of a k x k kernel except the central 1x1, which is a branch in OREPA-VGG."""
    size = geometry.kernel_size
    average = torch.full((1, size, size), 1 / size**2, dtype=torch.float64)
    cosines = algebra.cosine_filters(size)
    prior = cosines[torch.arange(geometry.out_channels) % len(cosines)]
    widening = 1 if geometry.groups <= FEW_GROUPS else 2
    return {
        "origin": ScaledTerm(FreeKernel(geometry, slope), 0.25),
        "1x1_avg": ScaledTerm(SpreadPointwise(geometry, average, slope), 0.25),
        "1x1_prior": ScaledTerm(SpreadPointwise(geometry, prior, slope), 0.0),
        "1x1_kxk": ScaledTerm(PointwiseThenKernel(geometry, widening, slope=slope), 0.5),
        "separable": ScaledTerm(DepthwiseSeparable(geometry, slope=slope), 0.5),
    }


def _pointwise_terms(geometry: ConvGeometry, slope: float) -> dict[str, ScaledTerm]:
    return {
        "origin": ScaledTerm(FreeKernel(geometry, slope), 1.0),
        "1x1_1x1": ScaledTerm(PointwiseThenKernel(geometry, slope=slope), 0.5),
    }


def _stem_terms(geometry: ConvGeometry, slope: float) -> dict[str, ScaledTerm]:
    return {
        "origin": ScaledTerm(FreeKernel(geometry, slope), 0.25),
        "stack": ScaledTerm(StackedKernels(geometry, slope), 1.0),
    }
