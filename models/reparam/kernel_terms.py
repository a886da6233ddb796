"""Terms of a composed kernel: linear layers in sequence, as the one kernel they compute.

Source: Hu et al., "Online Convolutional Re-parameterization" (OREPA), CVPR 2022, sec. 3 and fig. 4.
No term has a norm or a bias, so its layers and its kernel agree at the borders too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from models.reparam import algebra
from models.reparam.rep_block import ConvGeometry

CONV_SLOPE = 5**0.5  # with which torch starts a Conv2d: uniform within 1 / sqrt(fan in)


class KernelTerm(nn.Module, ABC):
    """A module that computes a kernel from its parameters."""

    @abstractmethod
    def kernel(self, dtype: torch.dtype) -> Tensor:
        """The (out, in / groups, k, k) kernel, computed in `dtype`."""


class FreeKernel(KernelTerm):
    """A kernel whose elements are all parameters; `slope` is explained at `_parameter`."""

    def __init__(self, geometry: ConvGeometry, slope: float = 0.0) -> None:
        super().__init__()
        self.weight = _parameter(*geometry.kernel_shape, slope=slope)

    def kernel(self, dtype: torch.dtype) -> Tensor:
        """The parameter, (out, in / groups, k, k)."""
        return self.weight.to(dtype)


class FixedKernel(KernelTerm):
    """A kernel without parameters, (out, in / groups, k, k)."""

    fixed: Tensor

    def __init__(self, kernel: Tensor) -> None:
        super().__init__()
        self.register_buffer("fixed", kernel.to(torch.get_default_dtype()), persistent=False)

    def kernel(self, dtype: torch.dtype) -> Tensor:
        """The kernel as given."""
        return self.fixed.to(dtype)


class SpreadPointwise(KernelTerm):
    """A 1x1 convolution, then one fixed filter per output channel.

    With an average as filter it is 1x1 then pooling; with a single tap, the 1x1 alone; with
    cosines, the frequency prior.

    Args:
        geometry: of the kernel.
        filters: (1 or out, k, k), not trained.
        slope: see `_parameter`.
    """

    filters: Tensor

    def __init__(self, geometry: ConvGeometry, filters: Tensor, slope: float = 0.0) -> None:
        super().__init__()
        self.weight = _parameter(*geometry.kernel_shape[:2], 1, 1, slope=slope)
        default = torch.get_default_dtype()
        self.register_buffer("filters", filters.to(default)[:, None], persistent=False)

    def kernel(self, dtype: torch.dtype) -> Tensor:
        """Kernel [o, i, h, w] = weight [o, i] * filter [o, h, w]."""
        return self.weight.to(dtype) * self.filters.to(dtype)


class PointwiseThenKernel(KernelTerm):
    """A 1x1 convolution that starts as the identity, then one of the kernel's size.

    Args:
        geometry: of the kernel.
        widening: hidden channels per input channel.
        slope: see `_parameter`.
    """

    identity: Tensor

    def __init__(self, geometry: ConvGeometry, widening: int = 1, slope: float = 0.0) -> None:
        super().__init__()
        self.groups = geometry.groups
        out, per_group, *size = geometry.kernel_shape
        hidden = geometry.in_channels * widening
        self.weight_1x1 = nn.Parameter(torch.zeros(hidden, per_group, 1, 1))
        self.weight = _parameter(out, hidden // geometry.groups, *size, slope=slope)
        identity = torch.eye(per_group).repeat(hidden // per_group, 1)[:, :, None, None]
        self.register_buffer("identity", identity, persistent=False)

    def kernel(self, dtype: torch.dtype) -> Tensor:
        """Both kernels merged into one of the second's size."""
        first = self.weight_1x1.to(dtype) + self.identity.to(dtype)
        return algebra.chain_kernels(first, self.weight.to(dtype), self.groups)


class DepthwiseSeparable(KernelTerm):
    """Several filters for each input channel, then a 1x1 convolution over all of them.

    Args:
        geometry: of the kernel.
        expansion: filters for each input channel.
        slope: see `_parameter`.
    """

    def __init__(self, geometry: ConvGeometry, expansion: int = 8, slope: float = 0.0) -> None:
        super().__init__()
        self.groups, self.expansion = geometry.groups, expansion
        out, per_group, *size = geometry.kernel_shape
        self.depthwise = _parameter(geometry.in_channels * expansion, 1, *size, slope=slope)
        self.pointwise = _parameter(out, per_group * expansion, 1, 1, slope=slope)

    def kernel(self, dtype: torch.dtype) -> Tensor:
        """Kernel [o, i] is the sum over e of pointwise [o, i, e] times filter [i, e]."""
        groups, expansion = self.groups, self.expansion
        size = self.depthwise.shape[2:]
        # Per group and input channel: (outputs, e) coefficients times (e, k * k) filters.
        per_group = self.depthwise.shape[0] // groups // expansion
        filters = self.depthwise.to(dtype).reshape(groups, per_group, expansion, size.numel())
        pointwise = self.pointwise.to(dtype).reshape(groups, -1, per_group, expansion)
        kernel = pointwise.transpose(1, 2) @ filters
        return kernel.transpose(1, 2).reshape(-1, per_group, *size)


class StackedKernels(KernelTerm):
    """3x3 convolutions in a row (one 2x2 at the end of an even size) as one large kernel.

    The deep linear stem of OREPA (sec. 4.1). Where the large convolution pads, it pads once, at its
    input; a stack of small ones would pad before each and differ from it in the border.

    Args:
        geometry: of the kernel; the hidden layers have as many channels as its output.
        slope: see `_parameter`.
    """

    def __init__(self, geometry: ConvGeometry, slope: float = 0.0) -> None:
        super().__init__()
        self.groups = geometry.groups
        out, per_group, size, _ = geometry.kernel_shape
        sides = [3] * ((size - 1) // 2) + [2] * (size % 2 == 0)
        channels = [per_group] + [out // geometry.groups] * (len(sides) - 1)
        self.weights = nn.ParameterList(
            _parameter(out, inner, side, side, slope=slope)
            for inner, side in zip(channels, sides, strict=True)
        )

    def kernel(self, dtype: torch.dtype) -> Tensor:
        """All kernels merged into one, (out, in / groups, k, k)."""
        first, *others = self.weights
        kernel: Tensor = first.to(dtype)
        for weight in others:
            kernel = algebra.chain_kernels(kernel, weight.to(dtype), self.groups)
        return kernel


def _parameter(*shape: int, slope: float = 0.0) -> nn.Parameter:
    """Kaiming-uniform for a leaky ReLU of this slope; 0 is how OREPA starts all of its weights."""
    return nn.Parameter(nn.init.kaiming_uniform_(torch.empty(*shape), a=slope, mode="fan_in"))
