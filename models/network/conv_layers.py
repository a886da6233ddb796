"""Convolutions of unusual kernels: depthwise, crossed, and of mixed sizes.

Attribute names follow YOLOv5's state dicts.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.network.concat_norm import ConcatNorm
from models.network.layer_rows import BuiltLayer, LayerRow, RowContext, csp_row
from models.network.layers import C3, ConvFactory
from models.reparam.rep_block import ConvGeometry, batch_norm


def depthwise(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, dilation: int = 1
) -> ConvGeometry:
    """In as many groups as divide both numbers of channels."""
    groups = math.gcd(in_channels, out_channels)
    return ConvGeometry(
        in_channels, out_channels, kernel_size, stride, groups=groups, dilation=dilation
    )


class CrossConv(nn.Module):
    """A 1 x k then a k x 1 convolution, plus the input where `shortcut` and the channels allow it.

    YOLOv5's; the factors of Szegedy et al., "Rethinking the Inception Architecture" (sec. 3.2).
    """

    def __init__(
        self, geometry: ConvGeometry, *, expansion: float, shortcut: bool, conv: ConvFactory
    ) -> None:
        """`geometry` is that of a k x k convolution; its groups are those of the second."""
        super().__init__()
        size, stride, out = geometry.kernel_size, geometry.stride, geometry.out_channels
        hidden = int(out * expansion)
        self.cv1 = conv.plain(
            functools.partial(
                nn.Conv2d, geometry.in_channels, hidden, (1, size), (1, stride), (0, size // 2)
            )
        )
        self.cv2 = conv.plain(
            functools.partial(
                nn.Conv2d, hidden, out, (size, 1), (stride, 1), (size // 2, 0),
                groups=geometry.groups,
            )
        )  # fmt: skip
        self.add = shortcut and geometry.in_channels == out

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        y: Tensor = self.cv2(self.cv1(x))
        return x + y if self.add else y


class C3x(C3):
    """C3 with crossed convolutions."""

    @staticmethod
    def chain(
        channels: int, repeats: int, *, shortcut: bool, groups: int, conv: ConvFactory
    ) -> nn.Module:
        """As C3's."""
        geometry = ConvGeometry(channels, channels, 3, groups=groups)
        blocks = (
            CrossConv(geometry, expansion=1.0, shortcut=shortcut, conv=conv) for _ in range(repeats)
        )
        return nn.Sequential(*blocks)


class MixConv2d(ConcatNorm):
    """Depthwise convolutions of several sizes side by side (Tan and Le, "MixConv", BMVC 2019)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_sizes: Sequence[int],
        stride: int,
        *,
        equal_channels: bool,
        conv: ConvFactory,
    ) -> None:
        """Each size makes as many channels as the others, or else of as many parameters."""
        super().__init__()
        shares = (equal if equal_channels else by_size)(out_channels, kernel_sizes)
        deployed = conv.form == "deploy"
        self.m = nn.ModuleList(
            depthwise(in_channels, channels, size, stride).conv(bias=deployed)
            for size, channels in zip(kernel_sizes, shares, strict=True)
        )
        self.bn = nn.Identity() if deployed else batch_norm(out_channels)
        self.act = conv.activation()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        y: Tensor = self.act(self.bn(torch.cat([conv(x) for conv in self.m], 1)))
        return y

    def normalized(self) -> Sequence[str]:
        """As ConcatNorm's."""
        return [f"m.{index}" for index in range(len(self.m))]


def equal(channels: int, kernel_sizes: Sequence[int]) -> list[int]:
    """As many channels for each size, earlier ones first where they do not divide."""
    edges = [math.ceil(channels * i / len(kernel_sizes)) for i in range(len(kernel_sizes) + 1)]
    return [end - start for start, end in itertools.pairwise(edges)]


def by_size(channels: int, kernel_sizes: Sequence[int]) -> list[int]:
    """Channels in proportion to 1 / k^2, so that each size has about as many parameters."""
    total = sum(size**-2 for size in kernel_sizes)
    rounded = [round(channels * size**-2 / total) for size in kernel_sizes]
    rounded[0] += channels - sum(rounded)
    return rounded


def _depthwise(
    row: RowContext, out: int, k: int = 1, s: int = 1, d: int = 1, act: bool = True
) -> BuiltLayer:
    wide = row.geometry(out, k, s, d=d)
    row.check_flag("act", act)
    geometry = depthwise(wide.in_channels, wide.out_channels, k, s, d)
    return row.built(row.conv(geometry, act=act), geometry.out_channels, s)


def _cross_conv(
    row: RowContext,
    out: int,
    k: int = 3,
    s: int = 1,
    g: int = 1,
    e: float = 1.0,
    shortcut: bool = False,
) -> BuiltLayer:
    row.check_odd(k=k)
    geometry = row.geometry(out, k, s, None, g)
    row.check_expansion(geometry.out_channels, e)
    row.check_flag("shortcut", shortcut)
    module = CrossConv(geometry, expansion=e, shortcut=shortcut and s == 1, conv=row.conv)
    return row.built(module, geometry.out_channels, s)


def _mix_conv(
    row: RowContext, out: int, k: Sequence[int] = (1, 3), s: int = 1, equal_ch: bool = True
) -> BuiltLayer:
    row.check_sizes(k=k)
    row.check_integers(s=s)
    row.check_flag("equal_ch", equal_ch)
    channels = row.scaled_channels(out)
    if min((equal if equal_ch else by_size)(channels, k)) < 1:
        raise row.refusal("k", k, f"sizes that each get one of {channels} channels")
    module = MixConv2d(row.in_channels[0], channels, k, s, equal_channels=equal_ch, conv=row.conv)
    return row.built(module, channels, s)


ROWS: dict[str, LayerRow] = {
    "DWConv": LayerRow(_depthwise),
    "CrossConv": LayerRow(_cross_conv),
    "C3x": csp_row(C3x),
    "MixConv2d": LayerRow(_mix_conv),
}
