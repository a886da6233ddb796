"""The branch whose kernel is composed in every forward pass."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.reparam import algebra
from models.reparam.branches import MainBranch
from models.reparam.composed_kernel import ComposedKernel
from models.reparam.rep_block import ConvGeometry, batch_norm


class ComposedBranch(MainBranch):
    """A convolution whose kernel is composed in every forward pass.

    Args:
        geometry: of the block.
        kernel: composes it.
        norm: whether a batch-norm follows.
        bias: whether the convolution has one.
    """

    def __init__(
        self, geometry: ConvGeometry, kernel: ComposedKernel, *, norm: bool, bias: bool = False
    ) -> None:
        super().__init__()
        self.geometry = geometry
        self.composed = kernel
        if bias:
            self.bias = nn.Parameter(torch.zeros(geometry.out_channels))
        self.bn = batch_norm(geometry.out_channels) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H', W')."""
        geometry = self.geometry
        y = F.conv2d(
            x,
            self.composed().to(x.dtype),
            None if self.bias is None else self.bias.to(x.dtype),
            geometry.stride,
            geometry.resolved_padding,
            geometry.dilation,
            geometry.groups,
        )
        return y if self.bn is None else self.bn(y)

    @torch.no_grad()
    def kernel(self) -> Tensor:
        """The kernel composed from the present parameters, in their dtype."""
        kernel: Tensor = self.composed()
        return kernel.to(self.composed.weight.dtype)

    @torch.no_grad()
    def set_kernel(self, kernel: Tensor) -> None:
        """Change the free term so that all terms sum to `kernel`; the others stay trainable.

        Raises:
            ValueError: the free term's scale is zero somewhere.
        """
        self.composed.set_kernel(kernel)

    @torch.no_grad()
    def kernel_and_bias(self) -> tuple[Tensor, Tensor]:
        """The composed kernel and the bias in float64, with the norm folded in."""
        kernel = self.composed.compose(torch.float64)
        bias = None if self.bias is None else self.bias.double()
        if self.bn is not None:
            return algebra.fuse_bn(kernel, bias, self.bn)
        return kernel, kernel.new_zeros(kernel.shape[0]) if bias is None else bias

    @torch.no_grad()
    def kernel_parts(self) -> dict[str, Tensor]:
        """The contribution of each term to the kernel, scale and norm included, by name."""
        parts = self.composed.parts(torch.float64)
        if self.bn is None:
            return parts
        return {name: algebra.fuse_bn(part, None, self.bn)[0] for name, part in parts.items()}
