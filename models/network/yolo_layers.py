"""Cross-stage blocks and pyramids of other YOLOs: C2f of v8, SPPCSPC of v7, C3SPP of v5.

Attribute names follow the state dicts of those projects.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.network.layer_rows import BuiltLayer, LayerRow, RowContext, csp_row
from models.network.layers import C3, SPPF, ConvFactory
from models.reparam.rep_block import ConvGeometry


class DoubleConv(nn.Module):
    """Two 3x3 convolutions, plus the input where `shortcut`: YOLOv8's bottleneck."""

    def __init__(self, channels: int, *, shortcut: bool, groups: int, conv: ConvFactory) -> None:
        super().__init__()
        self.add = shortcut
        self.cv1 = conv(ConvGeometry(channels, channels, 3))
        self.cv2 = conv(ConvGeometry(channels, channels, 3, groups=groups), in_residual=shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same."""
        y: Tensor = self.cv2(self.cv1(x))
        return x + y if self.add else y


class C2f(nn.Module):
    """One half through a chain of bottlenecks, 1x1 over it, the other half and every step.

    YOLOv8's, after the layer aggregation of Wang et al., "Designing Network Design Strategies
    Through Gradient Path Analysis".
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        repeats: int,
        shortcut: bool,
        groups: int,
        expansion: float,
        conv: ConvFactory,
    ) -> None:
        super().__init__()
        hidden = int(out_channels * expansion)
        self.cv1 = conv(ConvGeometry(in_channels, 2 * hidden))
        self.cv2 = conv(ConvGeometry((2 + repeats) * hidden, out_channels))
        self.m = nn.ModuleList(
            DoubleConv(hidden, shortcut=shortcut, groups=groups, conv=conv) for _ in range(repeats)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W)."""
        maps = list(self.cv1(x).chunk(2, 1))
        for block in self.m:
            maps.append(block(maps[-1]))
        y: Tensor = self.cv2(torch.cat(maps, 1))
        return y


class SPPCSPC(nn.Module):
    """Parallel pools in one half of a cross-stage block (Wang et al., "YOLOv7", CVPR 2023)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        pool_sizes: Sequence[int],
        *,
        expansion: float,
        conv: ConvFactory,
    ) -> None:
        super().__init__()
        hidden = int(2 * out_channels * expansion)
        self.cv1 = conv(ConvGeometry(in_channels, hidden))
        self.cv2 = conv(ConvGeometry(in_channels, hidden))
        self.cv3 = conv(ConvGeometry(hidden, hidden, 3))
        self.cv4 = conv(ConvGeometry(hidden, hidden))
        self.m = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in pool_sizes)
        self.cv5 = conv(ConvGeometry((len(pool_sizes) + 1) * hidden, hidden))
        self.cv6 = conv(ConvGeometry(hidden, hidden, 3))
        self.cv7 = conv(ConvGeometry(2 * hidden, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W)."""
        first = self.cv4(self.cv3(self.cv1(x)))
        pooled = torch.cat([first, *(pool(first) for pool in self.m)], 1)
        y: Tensor = self.cv7(torch.cat((self.cv6(self.cv5(pooled)), self.cv2(x)), 1))
        return y


class C3SPP(C3):
    """C3 with pools instead of bottlenecks."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        pool_size: int,
        *,
        expansion: float,
        conv: ConvFactory,
    ) -> None:
        super().__init__(in_channels, out_channels, expansion=expansion, conv=conv)
        hidden = int(out_channels * expansion)
        self.m = SPPF(hidden, hidden, pool_size, conv=conv)


def _sppcspc(
    row: RowContext,
    out: int,
    n: int = 1,
    shortcut: bool = False,
    g: int = 1,
    e: float = 0.5,
    k: Sequence[int] = (5, 9, 13),
) -> BuiltLayer:
    """`n`, `shortcut` and `g` have no effect, as in YOLOv7."""
    del n
    channels = row.check_csp(out, shortcut, g, e)
    row.check_sizes(k=k)
    module = SPPCSPC(row.in_channels[0], channels, k, expansion=e, conv=row.conv)
    return row.built(module, channels)


def _c3spp(
    row: RowContext,
    out: int,
    k: Sequence[int] = (5, 9, 13),
    n: int = 1,
    shortcut: bool = True,
    g: int = 1,
    e: float = 0.5,
) -> BuiltLayer:
    """`n`, `shortcut` and `g` have no effect, as in YOLOv5."""
    del n
    channels = row.check_csp(out, shortcut, g, e)
    size = row.chained_pool_size(k)
    if channels * e < 2:
        raise row.refusal("e", e, f"a factor that leaves two of {channels} channels, to halve them")
    module = C3SPP(row.in_channels[0], channels, size, expansion=e, conv=row.conv)
    return row.built(module, channels)


ROWS: dict[str, LayerRow] = {
    "C2f": csp_row(C2f, adds_input=False),
    "SPPCSPC": LayerRow(_sppcspc),
    "C3SPP": LayerRow(_c3spp),
}
