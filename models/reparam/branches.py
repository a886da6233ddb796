"""The branches of a block: linear maps, each with an equivalent kernel.

Shapes: B batch, H W cells. Every branch maps (B, in, H, W) to (B, out, H', W'); `kernel_and_bias`
gives the float64 kernel of the block's size that computes the same in eval mode.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor, nn

from models.reparam import algebra
from models.reparam.rep_block import ConvGeometry, batch_norm


class Branch(nn.Module, ABC):
    """One branch of a block; where it has norms, the last one is its output."""

    @property
    def last_norm(self) -> algebra.BatchNorm | None:
        """The last batch-norm, or None."""
        norms = [child for child in self.children() if isinstance(child, algebra.BatchNorm)]
        return norms[-1] if norms else None

    @torch.no_grad()
    def zero_init(self) -> None:
        """Make the branch output zero until its last norm's weight and bias are trained.

        A branch without norm is not changed, unless a subclass overrides this.
        """
        norm = self.last_norm
        if norm is not None:
            nn.init.zeros_(norm.weight)
            nn.init.zeros_(norm.bias)

    @abstractmethod
    def kernel_and_bias(self) -> tuple[Tensor, Tensor]:
        """(out, in / groups, k, k) kernel and (out,) bias of this branch alone, in float64."""

    def kernel_parts(self) -> dict[str, Tensor]:
        """The kernels that sum to this branch's, by name; one named "" where it is not composed."""
        return {"": self.kernel_and_bias()[0]}


class MainBranch(Branch):
    """A branch that can represent any kernel, so that a block can represent any convolution."""

    bias: nn.Parameter | None

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("bias", None)

    @abstractmethod
    def kernel(self) -> Tensor:
        """The kernel before any norm, in the dtype and on the device of the block."""

    @abstractmethod
    def set_kernel(self, kernel: Tensor) -> None:
        """Replace the kernel; norm and bias are not changed."""


class ConvBranch(MainBranch):
    """A convolution, with its own norm unless told otherwise.

    Args:
        geometry: of the block.
        kernel_hw: of this branch; None takes the block's. Smaller kernels share its centre.
        norm: whether a batch-norm follows.
    """

    def __init__(
        self,
        geometry: ConvGeometry,
        kernel_hw: tuple[int, int] | None = None,
        *,
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.full_hw = (geometry.kernel_size, geometry.kernel_size)
        self.conv = geometry.conv(bias=False, kernel_hw=kernel_hw)
        self.bn = batch_norm(geometry.out_channels) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H', W')."""
        y: Tensor = self.conv(x)
        return y if self.bn is None else self.bn(y)

    def kernel(self) -> Tensor:
        """The convolution's weight, of `kernel_hw`."""
        return self.conv.weight

    @torch.no_grad()
    def zero_init(self) -> None:
        """Zero the norm's weight and bias; without a norm, the kernel."""
        super().zero_init()
        if self.bn is None:
            nn.init.zeros_(self.conv.weight)

    @torch.no_grad()
    def set_kernel(self, kernel: Tensor) -> None:
        """Copy a kernel of `kernel_hw` into the convolution's weight."""
        self.conv.weight.copy_(kernel)

    @torch.no_grad()
    def kernel_and_bias(self) -> tuple[Tensor, Tensor]:
        """The kernel, norm folded in, zero-padded to the block's size."""
        weight, bias = self.conv.weight.double(), None
        if self.bn is None:
            bias = weight.new_zeros(weight.shape[0])
        else:
            weight, bias = algebra.fuse_bn(weight, None, self.bn)
        return algebra.pad_kernel(weight, self.full_hw), bias


class IdentityBranch(Branch):
    """The input itself, through a norm unless told otherwise.

    Args:
        geometry: of the block, which must keep the shape of its input.
        norm: whether a batch-norm follows.

    Raises:
        ValueError: input and output differ in shape.
    """

    def __init__(self, geometry: ConvGeometry, *, norm: bool = True) -> None:
        super().__init__()
        if not geometry.keeps_shape:
            raise ValueError(f"{geometry} changes the shape: there is no identity")
        self.geometry = geometry
        self.bn = batch_norm(geometry.out_channels) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) -> (B, c, H, W)."""
        return x if self.bn is None else self.bn(x)

    @torch.no_grad()
    def kernel_and_bias(self) -> tuple[Tensor, Tensor]:
        """1 at the centre tap of each filter's own channel and bias 0, with the norm folded in."""
        geometry = self.geometry
        device = torch.device("cpu") if self.bn is None else self.bn.running_var.device  # type: ignore[union-attr]
        kernel = algebra.identity_kernel(
            geometry.out_channels,
            geometry.groups,
            (geometry.kernel_size, geometry.kernel_size),
            device,
        )
        if self.bn is None:
            return kernel, kernel.new_zeros(geometry.out_channels)
        return algebra.fuse_bn(kernel, None, self.bn)


class PointwiseThenConv(Branch):
    """1x1 convolution and norm, then the block's own kind of convolution and norm (DBB, sec. 3.3).

    The padding sits in the 1x1 convolution, which has no bias: its ring of zeros then passes the
    first norm like any pixel, as the folded kernel needs (zeros padded after the norm would not).

    Args:
        geometry: of the block.
        hidden_channels: between the two convolutions.
    """

    def __init__(self, geometry: ConvGeometry, hidden_channels: int) -> None:
        super().__init__()
        first = geometry.pointwise(hidden_channels)
        second = replace(geometry, in_channels=hidden_channels, padding=0)
        self.conv_1x1 = replace(first, padding=geometry.resolved_padding).conv(bias=False)
        self.bn_1x1 = batch_norm(hidden_channels)
        self.conv = second.conv(bias=False)
        self.bn = batch_norm(geometry.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H', W')."""
        y: Tensor = self.bn(self.conv(self.bn_1x1(self.conv_1x1(x))))
        return y

    @torch.no_grad()
    def kernel_and_bias(self) -> tuple[Tensor, Tensor]:
        """Both convolutions with norms folded in, merged into one kernel."""
        first = algebra.fuse_bn(self.conv_1x1.weight, None, self.bn_1x1)
        second = algebra.fuse_bn(self.conv.weight, None, self.bn)
        return algebra.chain_1x1_kxk(first, second, self.conv.groups)


class PointwiseThenAverage(Branch):
    """1x1 convolution and norm, then average pooling and norm (DBB, sec. 3.3).

    Args:
        geometry: of the block.

    Raises:
        ValueError: the geometry is dilated, which pooling cannot be.
    """

    def __init__(self, geometry: ConvGeometry) -> None:
        super().__init__()
        if geometry.dilation != 1:
            raise ValueError("pooling has no dilation")
        self.geometry = geometry
        first = geometry.pointwise(geometry.out_channels)
        self.conv_1x1 = replace(first, padding=geometry.resolved_padding).conv(bias=False)
        self.bn_1x1 = batch_norm(geometry.out_channels)
        self.pool = nn.AvgPool2d(geometry.kernel_size, geometry.stride)
        self.bn = batch_norm(geometry.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H', W')."""
        y: Tensor = self.bn(self.pool(self.bn_1x1(self.conv_1x1(x))))
        return y

    @torch.no_grad()
    def kernel_and_bias(self) -> tuple[Tensor, Tensor]:
        """The pool as an average kernel, merged with the 1x1 before it."""
        geometry = self.geometry
        first = algebra.fuse_bn(self.conv_1x1.weight, None, self.bn_1x1)
        pool = algebra.average_kernel(
            geometry.out_channels, geometry.groups, geometry.kernel_size, first[0].device
        )
        return algebra.chain_1x1_kxk(first, algebra.fuse_bn(pool, None, self.bn), geometry.groups)
