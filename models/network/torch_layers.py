"""Layers of torch itself as rows: pools, padding, transposed convolutions.

The prefix `nn.` is optional. Arguments are torch's, by position; numbers of output
channels come first and are width-scaled. MP and SP are max-pools as YOLOv7 names them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from torch import nn

from models.network.layer_rows import BuiltLayer, LayerRow, RowContext


def _max_pool(row: RowContext, k: int, s: int | None = None, p: int = 0) -> BuiltLayer:
    s = _pool_geometry(row, k, s, p)
    return row.built(nn.MaxPool2d(k, s, p), row.in_channels[0], s)


def _halving_pool(row: RowContext, k: int = 2) -> BuiltLayer:
    return _max_pool(row, k)


def _same_pool(row: RowContext, k: int = 3, s: int = 1) -> BuiltLayer:
    row.check_odd(k=k)
    return _max_pool(row, k, s, k // 2)


def _avg_pool(row: RowContext, k: int, s: int | None = None, p: int = 0) -> BuiltLayer:
    s = _pool_geometry(row, k, s, p)
    return row.built(nn.AvgPool2d(k, s, p), row.in_channels[0], s)


def _pool_geometry(row: RowContext, k: int, s: int | None, p: int) -> int:
    s = k if s is None else s
    row.check_integers(k=k, s=s)
    row.check_integers(minimum=0, p=p)
    if p > k // 2:
        raise row.refusal("p", p, f"at most {k // 2}, half of the pool")
    return s


def _zero_pad(row: RowContext, padding: int | Sequence[int]) -> BuiltLayer:
    """`padding` is one number, or [left, right, top, bottom]."""
    sides = (padding,) * 4 if isinstance(padding, int) else tuple(padding)
    if len(sides) != 4:
        raise row.refusal("padding", padding, "a number, or four: left, right, top, bottom")
    for side in sides:
        row.check_integers(minimum=0, padding=side)
    left, right, top, bottom = sides
    return row.built(nn.ZeroPad2d((left, right, top, bottom)), row.in_channels[0])


def _identity(row: RowContext) -> BuiltLayer:
    return row.built(nn.Identity(), row.in_channels[0])


def _conv_transpose(
    row: RowContext, out: int, k: int, s: int = 1, p: int = 0, output_padding: int = 0, g: int = 1
) -> BuiltLayer:
    row.check_integers(g=g)
    return _transposed(row, row.scaled_channels(out), k, s, p, output_padding, g)


def _depthwise_transpose(
    row: RowContext, out: int, k: int = 1, s: int = 1, p1: int = 0, p2: int = 0
) -> BuiltLayer:
    """YOLOv5's DWConvTranspose2d: as many groups as divide both numbers of channels."""
    channels = row.scaled_channels(out)
    return _transposed(row, channels, k, s, p1, p2, math.gcd(row.in_channels[0], channels))


def _transposed(
    row: RowContext, channels: int, k: int, s: int, p: int, extra: int, groups: int
) -> BuiltLayer:
    """A transposed convolution with bias, without norm or activation, as torch's is."""
    row.check_integers(k=k, s=s)
    row.check_integers(minimum=0, p=p, output_padding=extra)
    if k - 2 * p + extra != s:  # output size (in - 1) s - 2 p + k + extra, of which s in is wanted
        raise row.refusal("k", k, f"a kernel of s + 2 p - output_padding = {s + 2 * p - extra}, "
                          f"with which maps are {s} times as large")  # fmt: skip
    module = nn.ConvTranspose2d(row.in_channels[0], channels, k, s, p, extra, groups=groups)
    return BuiltLayer(module, channels, row.in_strides[0] * Fraction(1, s))


ROWS: dict[str, LayerRow] = {
    "MaxPool2d": LayerRow(_max_pool),
    "MP": LayerRow(_halving_pool),
    "SP": LayerRow(_same_pool),
    "AvgPool2d": LayerRow(_avg_pool),
    "ZeroPad2d": LayerRow(_zero_pad),
    "Identity": LayerRow(_identity),
    "ConvTranspose2d": LayerRow(_conv_transpose),
    "DWConvTranspose2d": LayerRow(_depthwise_transpose),
}
