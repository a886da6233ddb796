"""RepVGG block (Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", CVPR 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.batch_norm import batch_norm
from models.reparam import algebra
from models.reparam.rep_block import ConvParams, RepBlock, params_of


class RepVGGBlock(RepBlock):
    """act(BN(conv3x3(x)) + BN(conv1x1(x)) + BN(x)); the last branch where shapes allow it.

    The identity branch exists when input and output have the same channels and stride is 1.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the convolutions.
        groups: of the convolutions.
        activation: applied after the sum.
        identity: False leaves the identity branch out where it could exist.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: nn.Module,
        identity: bool = True,
    ) -> None:
        super().__init__()
        self.branch_3x3 = nn.Conv2d(
            in_channels, out_channels, 3, stride, padding=1, groups=groups, bias=False
        )
        self.bn_3x3 = batch_norm(out_channels)
        self.branch_1x1 = nn.Conv2d(in_channels, out_channels, 1, stride, groups=groups, bias=False)
        self.bn_1x1 = batch_norm(out_channels)
        has_identity = identity and in_channels == out_channels and stride == 1
        self.branch_identity = batch_norm(out_channels) if has_identity else None
        self.act = activation

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""
        total = self.bn_3x3(self.branch_3x3(x)) + self.bn_1x1(self.branch_1x1(x))
        if self.branch_identity is not None:
            total = total + self.branch_identity(x)
        return self.act(total)  # type: ignore[no-any-return]

    @torch.no_grad()
    def equivalent_conv(self) -> ConvParams:
        """The sum of the branches' kernels, each with its own norm folded in (eq. in sec. 3.3)."""
        weight, bias = algebra.fuse_bn(self.branch_3x3.weight, None, self.bn_3x3)
        weight_1x1, bias_1x1 = algebra.fuse_bn(self.branch_1x1.weight, None, self.bn_1x1)
        weight = weight + algebra.pad_kernel(weight_1x1, (3, 3))
        bias = bias + bias_1x1
        if self.branch_identity is not None:
            kernel = algebra.identity_kernel(
                weight.shape[0], self.branch_3x3.groups, (3, 3), weight.device
            )
            weight_identity, bias_identity = algebra.fuse_bn(kernel, None, self.branch_identity)
            weight, bias = weight + weight_identity, bias + bias_identity
        return params_of(self.branch_3x3, weight, bias)

    def main_conv(self) -> nn.Conv2d:
        """The 3x3 branch."""
        return self.branch_3x3
