"""The parts of a composed kernel as the layers they stand for, run one after the other.

Nothing here uses the product's algebra: filters, groups and padding are written down once more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.reparam.kernel_terms import (
    DepthwiseSeparable,
    FreeKernel,
    PointwiseThenKernel,
    SpreadPointwise,
    StackedKernels,
)
from models.reparam.rep_block import ConvGeometry

Layers = Callable[[Any, ConvGeometry, Tensor], Tensor]  # of a term, in a geometry, on an input
Filters = Callable[[ConvGeometry], Tensor]  # (1 or out, k, k) in float64


def box(geometry: ConvGeometry) -> Tensor:
    """All taps alike."""
    size = geometry.kernel_size
    return torch.ones(1, size, size, dtype=torch.float64) / (size * size)


def tap(geometry: ConvGeometry) -> Tensor:
    """One at the centre, zeros around it."""
    size = geometry.kernel_size
    filters = torch.zeros(1, size, size, dtype=torch.float64)
    filters[0, size // 2, size // 2] = 1
    return filters


def cosine(size: int, number: int) -> list[list[float]]:
    """Filter (u, v), number u * size + v, cell by cell."""
    u, v = divmod(number, size)
    return [
        [
            math.cos(math.pi * u * (h + 0.5) / size) * math.cos(math.pi * v * (w + 0.5) / size)
            for w in range(size)
        ]
        for h in range(size)
    ]


def prior(geometry: ConvGeometry) -> Tensor:
    """Output channel by output channel the next cosine, the constant one (number 0) skipped."""
    size = geometry.kernel_size
    numbers = [1 + channel % (size * size - 1) for channel in range(geometry.out_channels)]
    return torch.tensor([cosine(size, number) for number in numbers], dtype=torch.float64)


def lopsided(geometry: ConvGeometry) -> Tensor:
    """Random ones: without symmetry, so that a flip shows."""
    generator = torch.Generator().manual_seed(1)
    shape = (geometry.out_channels, geometry.kernel_size, geometry.kernel_size)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def convolution(term: FreeKernel, geometry: ConvGeometry, x: Tensor) -> Tensor:
    return convolve(x, term.weight, geometry)


def pointwise_then_pool(term: SpreadPointwise, geometry: ConvGeometry, x: Tensor) -> Tensor:
    pool = nn.AvgPool2d(
        geometry.kernel_size, geometry.stride, geometry.resolved_padding, count_include_pad=True
    )
    return pool(F.conv2d(x, term.weight, groups=geometry.groups))


def pointwise_alone(term: SpreadPointwise, geometry: ConvGeometry, x: Tensor) -> Tensor:
    """With the large kernel's centres: zeros around the input, or fewer cells of it."""
    margin = geometry.resolved_padding - geometry.dilation * (geometry.kernel_size // 2)
    return F.conv2d(F.pad(x, [margin] * 4), term.weight, None, geometry.stride, 0, 1,
                    geometry.groups)  # fmt: skip


def pointwise_then(filters: Filters) -> Layers:
    """A depthwise convolution with fixed filters after the 1x1."""

    def layers(term: SpreadPointwise, geometry: ConvGeometry, x: Tensor) -> Tensor:
        hidden = F.conv2d(x, term.weight, groups=geometry.groups)
        depthwise = filters(geometry)[:, None].expand(geometry.out_channels, 1, -1, -1)
        return convolve(hidden, depthwise, geometry, groups=geometry.out_channels)

    return layers


def pointwise_then_kernel(term: PointwiseThenKernel, geometry: ConvGeometry, x: Tensor) -> Tensor:
    """The 1x1 has a shortcut around it, which repeats a group's input where it is wider."""
    groups, widening = geometry.groups, term.weight_1x1.shape[0] // geometry.in_channels
    shortcut = x.unflatten(1, (groups, -1)).repeat(1, 1, widening, 1, 1).flatten(1, 2)
    hidden = F.conv2d(x, term.weight_1x1, groups=groups) + shortcut
    return convolve(hidden, term.weight, geometry)


def depthwise_then_pointwise(term: DepthwiseSeparable, geometry: ConvGeometry, x: Tensor) -> Tensor:
    hidden = convolve(x, term.depthwise, geometry, groups=geometry.in_channels)
    return F.conv2d(hidden, term.pointwise, groups=geometry.groups)


def stack(term: StackedKernels, geometry: ConvGeometry, x: Tensor) -> Tensor:
    """All the padding at the input, where the large convolution has it; the last one strides."""
    x = F.pad(x, [geometry.resolved_padding] * 4)
    *others, last = term.weights
    for weight in others:
        x = F.conv2d(x, weight, dilation=geometry.dilation, groups=geometry.groups)
    return F.conv2d(x, last, None, geometry.stride, 0, geometry.dilation, geometry.groups)


def convolve(
    x: Tensor, weight: Tensor, geometry: ConvGeometry, groups: int | None = None
) -> Tensor:
    padding, groups = geometry.resolved_padding, groups or geometry.groups
    return F.conv2d(x, weight, None, geometry.stride, padding, geometry.dilation, groups)
