"""Ghost modules (Han et al., "GhostNet", CVPR 2020): half of the maps made of the other half.

Attribute names follow YOLOv5's state dicts, sizes its choices: 5x5 for the cheap maps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.network.conv_layers import depthwise
from models.network.layer_rows import BuiltLayer, LayerRow, RowContext, csp_row
from models.network.layers import C3, ConvFactory
from models.reparam.rep_block import ConvGeometry


class GhostConv(nn.Module):
    """Half of the channels by a convolution, the others by a 5x5 of each of them (fig. 2b)."""

    def __init__(self, geometry: ConvGeometry, *, act: bool = True, conv: ConvFactory) -> None:
        super().__init__()
        half = geometry.out_channels // 2
        first = ConvGeometry(
            geometry.in_channels,
            half,
            geometry.kernel_size,
            geometry.stride,
            groups=geometry.groups,
        )
        self.cv1 = conv(first, act=act)
        self.cv2 = conv(ConvGeometry(half, half, 5, groups=half), act=act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H', W'), out even."""
        y = self.cv1(x)
        return torch.cat((y, self.cv2(y)), 1)


class GhostBottleneck(nn.Module):
    """Two ghost modules, with a depthwise convolution between them at stride 2 (fig. 3)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        *,
        conv: ConvFactory,
    ) -> None:
        super().__init__()
        hidden = out_channels // 2
        between: nn.Module = nn.Identity()
        self.shortcut: nn.Module = nn.Identity()
        if stride == 2:
            between = conv(depthwise(hidden, hidden, kernel_size, stride), act=False)
            self.shortcut = nn.Sequential(
                conv(depthwise(in_channels, in_channels, kernel_size, stride), act=False),
                conv(ConvGeometry(in_channels, out_channels), act=False),
            )
        self.conv = nn.Sequential(
            GhostConv(ConvGeometry(in_channels, hidden), conv=conv),
            between,
            GhostConv(ConvGeometry(hidden, out_channels), act=False, conv=conv),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        y: Tensor = self.conv(x) + self.shortcut(x)
        return y


class C3Ghost(C3):
    """C3 with ghost bottlenecks, which always have a shortcut."""

    @staticmethod
    def chain(
        channels: int, repeats: int, *, shortcut: bool, groups: int, conv: ConvFactory
    ) -> nn.Module:
        """As C3's."""
        del shortcut, groups  # ghost bottlenecks have no such choice
        blocks = (GhostBottleneck(channels, channels, conv=conv) for _ in range(repeats))
        return nn.Sequential(*blocks)


def _ghost_conv(
    row: RowContext, out: int, k: int = 1, s: int = 1, g: int = 1, act: bool = True
) -> BuiltLayer:
    geometry = row.geometry(out, k, s, None, g)
    row.check_flag("act", act)
    if geometry.out_channels % 2:
        raise row.refusal("out", geometry.out_channels, "an even number of channels")
    return row.built(GhostConv(geometry, act=act, conv=row.conv), geometry.out_channels, s)


def _ghost_bottleneck(row: RowContext, out: int, k: int = 3, s: int = 1) -> BuiltLayer:
    row.check_odd(k=k)
    row.check_one_of("s", s, (1, 2))
    channels = row.scaled_channels(out)
    if channels % 4:
        raise row.refusal("out", channels, "a multiple of 4 channels")
    if s == 1 and channels != row.in_channels[0]:
        expected = f"{row.in_channels[0]} channels at stride 1, as many as it reads"
        raise row.refusal("out", channels, expected)
    return row.built(
        GhostBottleneck(row.in_channels[0], channels, k, s, conv=row.conv), channels, s
    )


ROWS: dict[str, LayerRow] = {
    "GhostConv": LayerRow(_ghost_conv),
    "GhostBottleneck": LayerRow(_ghost_bottleneck),
    "C3Ghost": csp_row(C3Ghost),
}
