"""Layers of YOLOv5 v1 to v5 that later versions replaced: the Focus stem and parallel pools.

Attribute names follow YOLOv5's state dicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from models.network.layer_rows import BuiltLayer, LayerRow, RowContext
from models.network.layers import SPPF, ConvFactory
from models.reparam.rep_block import ConvGeometry
from utils.errors import ConfigError


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
    first = k[0] if isinstance(k, Sequence) and k else None
    if not isinstance(first, int) or list(k) != [first, 2 * first - 1, 3 * first - 2]:
        raise ConfigError(f"{row.layer.where}: k is {k!r}, expected [k, 2k - 1, 3k - 2], as 5 9 13")
    row.check_odd(k=first)
    channels = row.scaled_channels(out)
    return row.built(SPPF(row.in_channels[0], channels, first, conv=row.conv), channels)


ROWS: dict[str, LayerRow] = {"Focus": LayerRow(_focus), "SPP": LayerRow(_spp)}
