"""Layers of YOLOv5 v1 to v5 that later versions replaced.

The Focus stem, parallel pools, BottleneckCSP, and moves between pixels and channels.

Attribute names follow YOLOv5's state dicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.network.concat_norm import ConcatNorm
from models.network.layer_rows import BuiltLayer, LayerRow, RowContext
from models.network.layers import C3, SPPF, ConvFactory
from models.reparam.rep_block import ConvGeometry, batch_norm


class SpaceToDepth(nn.Conv2d):
    """Moves each 2x2 square of pixels into the channels of one cell, ordered as in YOLOv5's Focus.

    Channels come out as (top left, bottom left, top right, bottom right), each with all of the
    input's. It is written as a convolution whose weights are fixed zeros and ones, which is exact
    and a plain Conv in exported files: compilers of accelerators take no Slice with steps.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels, 4 * in_channels, 2, stride=2, bias=False)
        weight = torch.zeros_like(self.weight)
        for column in (0, 1):
            for row in (0, 1):
                first = (2 * column + row) * in_channels
                weight[first : first + in_channels, :, row, column] = torch.eye(in_channels)
        del self.weight  # not learnt, and not in YOLOv5's state dicts
        self.register_buffer("weight", weight, persistent=False)


class Focus(nn.Module):
    """The stem of YOLOv5 v1 to v5: space-to-depth by 2, then a convolution."""

    def __init__(self, geometry: ConvGeometry, *, act: bool = True, conv: ConvFactory) -> None:
        """`geometry` is that of the convolution, but `in_channels` are those of the image."""
        super().__init__()
        self.space_to_depth = SpaceToDepth(geometry.in_channels)
        inner = replace(geometry, in_channels=4 * geometry.in_channels)
        self.conv = conv(inner, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W), H and W even -> (B, out, H / 2, W / 2) where the stride is 1."""
        y: Tensor = self.conv(self.space_to_depth(x))
        return y


class BottleneckCSP(ConcatNorm):
    """Cross-stage-partial block (Wang et al., "CSPNet", CVPR workshops 2020), C3's predecessor.

    The convolutions that end both halves have no norm of their own but share one.
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
        activation: nn.Module | None = None,
        conv: ConvFactory,
    ) -> None:
        """`activation` follows the shared norm; None is that of the convolutions."""
        super().__init__()
        hidden = int(out_channels * expansion)
        deployed = conv.form == "deploy"
        self.cv1 = conv(ConvGeometry(in_channels, hidden))
        self.cv2 = ConvGeometry(in_channels, hidden).conv(bias=deployed)
        self.cv3 = ConvGeometry(hidden, hidden).conv(bias=deployed)
        self.cv4 = conv(ConvGeometry(2 * hidden, out_channels))
        self.bn = nn.Identity() if deployed else batch_norm(2 * hidden)
        self.act = conv.activation() if activation is None else activation
        self.m = C3.chain(hidden, repeats, shortcut=shortcut, groups=groups, conv=conv)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W)."""
        halves = torch.cat((self.cv3(self.m(self.cv1(x))), self.cv2(x)), 1)
        y: Tensor = self.cv4(self.act(self.bn(halves)))
        return y

    def normalized(self) -> Sequence[str]:
        """As ConcatNorm's."""
        return ("cv3", "cv2")


class Contract(nn.Module):
    """Each gain x gain square of pixels into the channels of one cell: (row, column, channel)."""

    def __init__(self, gain: int) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), H and W multiples of the gain -> (B, gain^2 C, H / gain, W / gain)."""
        channels, gain = x.shape[1], self.gain
        # pixel_unshuffle orders by (channel, row, column).
        cells = F.pixel_unshuffle(x, gain)
        batch, _, height, width = cells.shape
        by_cell = cells.view(batch, channels, gain * gain, height, width).transpose(1, 2)
        return by_cell.reshape(batch, gain * gain * channels, height, width)


class Expand(nn.Module):
    """The inverse of Contract."""

    def __init__(self, gain: int) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), C a multiple of gain^2 -> (B, C / gain^2, gain H, gain W)."""
        batch, channels, height, width = x.shape
        squares = x.view(batch, self.gain**2, channels // self.gain**2, height, width)
        by_channel = squares.transpose(1, 2).reshape(batch, channels, height, width)
        return F.pixel_shuffle(by_channel, self.gain)


def _focus(
    row: RowContext,
    out: int,
    k: int = 1,
    s: int = 1,
    p: int | None = None,
    g: int = 1,
    act: bool = True,
) -> BuiltLayer:
    geometry = row.geometry(out, k, s, p, g)
    row.check_flag("act", act)
    return row.built(Focus(geometry, act=act, conv=row.conv), geometry.out_channels, 2 * s)


def _spp(row: RowContext, out: int, k: Sequence[int] = (5, 9, 13)) -> BuiltLayer:
    """Three pools side by side, built as SPPF: chained pools of the first size equal them."""
    first = row.chained_pool_size(k)
    row.check_halves(row.in_channels[0])
    channels = row.scaled_channels(out)
    return row.built(SPPF(row.in_channels[0], channels, first, conv=row.conv), channels)


def _bottleneck_csp(
    row: RowContext,
    out: int,
    shortcut: bool = True,
    g: int = 1,
    e: float = 0.5,
    act: str | None = None,
) -> BuiltLayer:
    """`act` names the activation after the shared norm: before v6, YOLOv5 has LeakyReLU(0.1)."""
    channels = row.check_csp(out, shortcut, g, e)
    module = BottleneckCSP(
        row.in_channels[0],
        channels,
        repeats=row.repeats,
        shortcut=shortcut,
        groups=g,
        expansion=e,
        activation=None if act is None else row.activated(act).activation(),
        conv=row.conv,
    )
    return row.built(module, channels)


def _contract(row: RowContext, gain: int = 2) -> BuiltLayer:
    row.check_integers(gain=gain)
    return row.built(Contract(gain), row.in_channels[0] * gain**2, gain)


def _expand(row: RowContext, gain: int = 2) -> BuiltLayer:
    row.check_integers(gain=gain)
    channels, rest = divmod(row.in_channels[0], gain**2)
    if rest:
        expected = f"one whose square divides {row.in_channels[0]} channels"
        raise row.refusal("gain", gain, expected)
    return BuiltLayer(Expand(gain), channels, row.in_strides[0] / gain)


ROWS: dict[str, LayerRow] = {
    "Focus": LayerRow(_focus),
    "SPP": LayerRow(_spp),
    "BottleneckCSP": LayerRow(_bottleneck_csp, repeats_inside=True),
    "Contract": LayerRow(_contract),
    "Expand": LayerRow(_expand),
}
