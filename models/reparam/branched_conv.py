"""The block all families share: parallel branches, summed, perhaps a norm, then the activation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.batch_norm import batch_norm
from models.conv_geometry import ConvGeometry
from models.reparam import algebra
from models.reparam.branches import Branch
from models.reparam.rep_block import ConvParams, RepBlock


class BranchedConv(RepBlock):
    """act(norm(sum of branches)); the norm after the sum is optional.

    Args:
        family: the family's name, for reports.
        geometry: of the convolution it becomes.
        branches: by name; at least one.
        activation: applied last.
        post_norm: whether a batch-norm follows the sum.
    """

    def __init__(
        self,
        family: str,
        geometry: ConvGeometry,
        branches: Mapping[str, Branch],
        activation: nn.Module,
        *,
        post_norm: bool = False,
    ) -> None:
        super().__init__()
        self.family = family
        self.geometry = geometry
        self.branches = nn.ModuleDict(branches)
        self.post_bn = batch_norm(geometry.out_channels) if post_norm else None
        self.act = activation
        if not post_norm:
            self._share_variance()

    @property
    def kind(self) -> str:
        """The family's name."""
        return self.family

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H', W')."""
        first, *others = self.branches.values()
        total = first(x)
        for branch in others:
            total = total + branch(x)
        if self.post_bn is not None:
            total = self.post_bn(total)
        return self.act(total)  # type: ignore[no-any-return]

    @torch.no_grad()
    def equivalent_conv(self) -> ConvParams:
        """The sum of the branches' kernels, with the norm after the sum folded in."""
        device = self.main_conv().weight.device  # an identity without norm knows of none
        pairs = [branch.kernel_and_bias() for branch in self._parts()]
        weight = torch.stack([kernel.to(device) for kernel, _ in pairs]).sum(0)
        bias = torch.stack([bias.to(device) for _, bias in pairs]).sum(0)
        if self.post_bn is not None:
            weight, bias = algebra.fuse_bn(weight, bias, self.post_bn)
        geometry = self.geometry
        stride, padding, dilation = geometry.stride, geometry.resolved_padding, geometry.dilation
        return ConvParams(
            weight=weight,
            bias=bias,
            stride=(stride, stride),
            padding=(padding, padding),
            dilation=(dilation, dilation),
            groups=geometry.groups,
        )

    def main_conv(self) -> nn.Conv2d:
        """The first convolution of the first branch."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                return module
        raise ValueError("a block has at least one convolution")

    def _share_variance(self) -> None:
        """Start every branch's norm at 1 / sqrt(n), so that their sum has unit variance.

        With scales of 1 the sum is sqrt(n) times as wide as what a plain convolution and norm give;
        the next norm divides that out, and with it the gradient: measured on 40 short epochs, such
        a network learns at about half the speed of the plain one.
        """
        norms = [norm for branch in self._parts() if (norm := branch.last_norm) is not None]
        for norm in norms:
            nn.init.constant_(norm.weight, len(norms) ** -0.5)

    def _parts(self) -> list[Branch]:
        return [branch for branch in self.branches.values() if isinstance(branch, Branch)]
