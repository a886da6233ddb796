"""The block of all families: the sum of parallel branches, an optional norm, the activation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.reparam import algebra
from models.reparam.branches import Branch, MainBranch
from models.reparam.rep_block import ConvGeometry, ConvParams, RepBlock, batch_norm

STARTS = ("plain", "paper")  # how branches with norms of their own start


class BranchedConv(RepBlock):
    """act(norm(sum of branches)); the norm after the sum is optional.

    Args:
        family: the family's name, for reports.
        geometry: of the convolution it becomes.
        branches: by name; the first is a MainBranch, which can represent any kernel.
        activation: applied last.
        post_norm: whether a batch-norm follows the sum.
        start: "plain" starts as the first branch alone, the others joining as their scales learn;
            "paper" with all scales at 1. With a norm after the sum all branches start together.

    Raises:
        ValueError: another start.
    """

    def __init__(
        self,
        family: str,
        geometry: ConvGeometry,
        branches: Mapping[str, Branch],
        activation: nn.Module,
        *,
        post_norm: bool = False,
        start: str = "plain",
    ) -> None:
        super().__init__()
        if start not in STARTS:
            raise ValueError(f"{family}: start is {start!r}, expected {' or '.join(STARTS)}")
        self.family = family
        self.geometry = geometry
        self.branches = nn.ModuleDict(branches)
        self.post_bn = batch_norm(geometry.out_channels) if post_norm else None
        self.act = activation
        if not post_norm and start == "plain":
            # With all scales at 1 each block enlarges the gradient that passes it (twice the norm
            # over repyolov5n), and short trainings learned less.
            for branch in self._parts()[1:]:
                branch.zero_init()

    @property
    def kind(self) -> str:
        """The family's name, for reports and the console."""
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
        device = self.main_kernel().device  # an identity without norm has no device
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

    @torch.no_grad()
    def kernel_parts(self) -> dict[str, Tensor]:
        """What each branch, and each term of a composed one, adds to the equivalent kernel."""
        found, device = {}, self.main_kernel().device
        for name, branch in zip(self.branches, self._parts(), strict=True):
            for term, kernel in branch.kernel_parts().items():
                kernel = kernel.to(device)
                if self.post_bn is not None:
                    kernel = algebra.fuse_bn(kernel, None, self.post_bn)[0]
                found[term or name] = kernel
        return found

    @torch.no_grad()
    def load_conv_bn(self, conv: nn.Conv2d, norm: algebra.BatchNorm) -> None:
        """Compute what `conv` and `norm` compute, with every branch trainable.

        Without a norm after the sum, the main branch copies both and the others start at zero:
        exact in eval and in train mode. With one, that norm copies `norm`, and the main branch gets
        the kernel minus the other branches (an identity without norm cannot be zero): exact in eval
        mode, and in train mode too if no branch has a norm of its own. A block without any norm
        gets the folded convolution: exact in eval mode.

        Raises:
            ValueError: the block has neither norm nor bias to represent `norm`'s shift.
        """
        main, others = self._main(), self._parts()[1:]
        for branch in others:
            branch.zero_init()
        if self.post_bn is not None:
            kernel = conv.weight.double()
            for branch in others:
                kernel = kernel - branch.kernel_and_bias()[0].to(kernel.device)
            main.set_kernel(kernel)
            if main.last_norm is not None:
                algebra.make_transparent(main.last_norm, statistics=norm)
            algebra.copy_batch_norm(norm, self.post_bn)
            return
        if main.last_norm is not None:
            main.set_kernel(conv.weight)
            algebra.copy_batch_norm(norm, main.last_norm)
        elif main.bias is not None:
            kernel, bias = algebra.fuse_bn(conv.weight, None, norm)
            main.set_kernel(kernel)
            main.bias.copy_(bias)
        else:
            raise ValueError(
                f"{self.family}: has neither norm nor bias to represent a norm's shift"
            )

    def main_kernel(self) -> Tensor:
        """The first branch's kernel, before any norm."""
        return self._main().kernel()

    def _main(self) -> MainBranch:
        main = self._parts()[0]
        if not isinstance(main, MainBranch):
            raise TypeError(f"{self.family}: the first branch cannot represent any kernel")
        return main

    def _parts(self) -> list[Branch]:
        return [branch for branch in self.branches.values() if isinstance(branch, Branch)]
