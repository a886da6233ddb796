"""One batch-norm over convolutions whose outputs are concatenated, in both forms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn

from models.reparam import algebra
from models.reparam.rep_block import conv_from_params, params_of


class ConcatNorm(nn.Module, ABC):
    """A layer with a norm `bn` over the outputs of several convolutions, side by side.

    In deploy form each convolution has its part of the norm folded in, and `bn` is an Identity.
    """

    bn: nn.Module

    @abstractmethod
    def normalized(self) -> Sequence[str]:
        """Names of the convolutions (of submodules), in the order of their channels in `bn`."""

    @torch.no_grad()
    def fold_norm(self) -> None:
        """Become the deploy form, in place; folded in float64, cast last."""
        if not isinstance(self.bn, algebra.BatchNorm):
            return
        scale, shift = algebra.batch_norm_scale_shift(self.bn)
        first = 0
        for name in self.normalized():
            conv = self._conv(name)
            part = slice(first, first + conv.out_channels)
            first += conv.out_channels
            weight = conv.weight.double() * scale[part, None, None, None]
            folded = conv_from_params(params_of(conv, weight, shift[part]), like=conv.weight)
            self.set_submodule(name, folded)
        self.bn = nn.Identity()

    @torch.no_grad()
    def load_convs_norm(self, source: ConcatNorm) -> None:
        """Compute, in train form, what the convolutions and the norm of `source` compute.

        Args:
            source: of the same sizes, in train or deploy form.
        """
        if not isinstance(self.bn, algebra.BatchNorm):
            raise ValueError("a layer in deploy form has no norm to load")
        convs = [source._conv(name) for name in source.normalized()]
        for name, conv in zip(self.normalized(), convs, strict=True):
            self._conv(name).weight.copy_(conv.weight)
        if isinstance(source.bn, algebra.BatchNorm):
            algebra.copy_batch_norm(source.bn, self.bn)
        else:
            biases = [conv.bias for conv in convs if conv.bias is not None]
            algebra.make_transparent(self.bn, torch.cat(biases))

    def _conv(self, name: str) -> nn.Conv2d:
        conv = self.get_submodule(name)
        if not isinstance(conv, nn.Conv2d):
            raise TypeError(f"{name} is {type(conv).__name__}, expected a convolution")
        return conv
