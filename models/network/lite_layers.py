"""Layers of YOLOv5-Lite: ShuffleNetV2 and PP-LCNet blocks, depthwise-separable convolutions, sums.

Those of OWN_ACTIVATION have the activation they were published with; a yaml's `activation` is that
of its other rows. Row names are those of YOLOv5-Lite's yamls.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from models.network.attention_layers import SE
from models.network.layer_rows import BuiltLayer, LayerRow, RowContext
from models.network.layers import ConvFactory, Join
from models.reparam.families import repvgg
from models.reparam.rep_block import ConvGeometry

GATES: dict[str, type[nn.Module]] = {
    "SiLU": nn.SiLU,
    "Sigmoid": nn.Sigmoid,
    "Hardsigmoid": nn.Hardsigmoid,
}


class ShuffleUnit(nn.Module):
    """ShuffleNetV2's unit (Ma et al., ECCV 2018, fig. 3 c and d), with ReLU.

    At stride 1 one half of the channels passes by; at stride 2 both branches read all of them. The
    channels of both are interleaved last. Depthwise convolutions have no activation.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, *, conv: ConvFactory
    ) -> None:
        super().__init__()
        half = out_channels // 2
        if stride == 1 and in_channels != 2 * half:
            raise ValueError(
                f"stride 1 keeps {in_channels} channels, it cannot give {out_channels}"
            )
        read = in_channels if stride > 1 else half
        if stride > 1:
            self.branch1 = nn.Sequential(
                conv(ConvGeometry(read, read, 3, stride, groups=read), act=False),
                conv(ConvGeometry(read, half)),
            )
        self.branch2 = nn.Sequential(
            conv(ConvGeometry(read, half)),
            conv(ConvGeometry(half, half, 3, stride, groups=half), act=False),
            conv(ConvGeometry(half, half)),
        )
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        if self.stride == 1:
            first, second = x.chunk(2, 1)
            return interleave_halves(torch.cat((first, self.branch2(second)), 1))
        return interleave_halves(torch.cat((self.branch1(x), self.branch2(x)), 1))


def interleave_halves(x: Tensor) -> Tensor:
    """Channels 0, c/2, 1, c/2 + 1, ... of (B, c, H, W): a channel shuffle in two groups.

    No tensor has more than four dimensions on the way, for the compilers that take no more.
    """
    batch, channels, height, width = x.shape
    halves = x.reshape(batch, 2, channels // 2, height * width)
    return halves.transpose(1, 2).reshape(batch, channels, height, width)


class ConvPool(nn.Module):
    """ShuffleNetV2's stem: 3x3 convolution with ReLU, then 3x3 max-pool, each of stride 2."""

    def __init__(self, in_channels: int, out_channels: int, *, conv: ConvFactory) -> None:
        super().__init__()
        self.conv = conv(ConvGeometry(in_channels, out_channels, 3, 2))
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / 4, W / 4)."""
        y: Tensor = self.maxpool(self.conv(x))
        return y


class DepthwiseSeparable(nn.Module):
    """Depthwise k x k then pointwise convolution, an optional squeeze-and-excitation between.

    With Hardswish and the gate it is PP-LCNet's block (Cui et al., 2021, fig. 2), with ReLU and
    without it YOLOv5-Lite's `DWConvblock`.
    """

    def __init__(
        self,
        geometry: ConvGeometry,
        gate: SE | None = None,
        *,
        conv: ConvFactory,
    ) -> None:
        """`geometry` is that of both together: in and out channels, kernel and stride."""
        super().__init__()
        channels = geometry.in_channels
        depthwise = replace(geometry, out_channels=channels, groups=channels)
        self.dw_conv = conv(depthwise)
        if gate is not None:
            self.se = gate
        self.pw_conv = conv(ConvGeometry(channels, geometry.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H', W')."""
        between = self.dw_conv(x)
        y: Tensor = self.pw_conv(self.se(between) if hasattr(self, "se") else between)
        return y


class DenseConv(nn.Module):
    """Convolution without norm or bias, Hardswish, dropout: the last layer of PP-LCNet."""

    def __init__(self, geometry: ConvGeometry, dropout: float) -> None:
        super().__init__()
        self.conv = geometry.conv(bias=False)
        self.act = nn.Hardswish()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H', W')."""
        y: Tensor = self.dropout(self.act(self.conv(x)))
        return y


class WeightedSum(Join):
    """The first map plus `weight` times the second."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Two of (B, c, H, W) -> (B, c, H, W)."""
        first, second = maps
        return first + second if self.weight == 1 else first + self.weight * second


class GatedBlock(nn.Module):
    """A block without activation, squeeze and excitation, then the activation.

    The gate is between the sum of the branches and the activation, so it stays when the branches
    are merged.
    """

    def __init__(self, block: nn.Module, gate: SE, activation: nn.Module) -> None:
        super().__init__()
        self.conv = block
        self.se = gate
        self.act = activation

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H', W')."""
        y: Tensor = self.act(self.se(self.conv(x)))
        return y


def _shuffle_unit(row: RowContext, out: int, s: int = 1) -> BuiltLayer:
    row.check_one_of("s", s, (1, 2))
    channels = row.scaled_channels(out)
    module = ShuffleUnit(row.in_channels[0], channels, s, conv=row.activated("ReLU"))
    return row.built(module, channels, s)


def _conv_pool(row: RowContext, out: int) -> BuiltLayer:
    channels = row.scaled_channels(out)
    return row.built(
        ConvPool(row.in_channels[0], channels, conv=row.activated("ReLU")), channels, 4
    )


def _separable(row: RowContext, out: int, k: int = 3, s: int = 1) -> BuiltLayer:
    geometry = row.geometry(out, k, s)
    module = DepthwiseSeparable(geometry, conv=row.activated("ReLU"))
    return row.built(module, geometry.out_channels, s)


def _hardswish_conv(row: RowContext, out: int, k: int = 1, s: int = 1, g: int = 1) -> BuiltLayer:
    geometry = row.geometry(out, k, s, g=g)
    return row.built(row.activated("Hardswish")(geometry), geometry.out_channels, s)


def _lcnet_block(
    row: RowContext, out: int, s: int = 1, k: int = 3, se: bool = False, gate: str = "SiLU"
) -> BuiltLayer:
    geometry = row.geometry(out, k, s)
    row.check_flag("se", se)
    row.check_one_of("gate", gate, tuple(GATES))
    channels = geometry.in_channels
    squeeze = SE(channels, max(channels // 4, 1), GATES[gate]()) if se else None
    module = DepthwiseSeparable(geometry, squeeze, conv=row.activated("Hardswish"))
    return row.built(module, geometry.out_channels, s)


def _dense(row: RowContext, out: int, k: int = 1, dropout: float = 0.2) -> BuiltLayer:
    row.check_odd(k=k)
    geometry = row.geometry(out, k, 1, p=0)
    if k != 1:
        raise row.refusal("k", k, "1, which keeps the size of the map")
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise row.refusal("dropout", dropout, "a probability below 1")
    return row.built(DenseConv(geometry, float(dropout)), geometry.out_channels)


def _sum(row: RowContext, weight: float = 0.5) -> BuiltLayer:
    if len(row.in_channels) != 2 or len(set(row.in_channels)) > 1 or len(set(row.in_strides)) > 1:
        maps = ", ".join(
            f"{channels} channels at stride {stride}"
            for channels, stride in zip(row.in_channels, row.in_strides, strict=True)
        )
        raise row.refusal("from", maps, "two maps of the same channels and stride")
    if not isinstance(weight, int | float):
        raise row.refusal("weight", weight, "a number")
    return row.built(WeightedSum(float(weight)), row.in_channels[0])


def _repvgg_block(
    row: RowContext,
    out: int,
    k: int = 3,
    s: int = 1,
    p: int | None = None,
    g: int = 1,
    se: bool = False,
) -> BuiltLayer:
    geometry = row.geometry(out, k, s, p, g)
    row.check_flag("se", se)
    module = row.conv.block(repvgg, geometry, act=not se)
    if se:
        channels = geometry.out_channels
        gate = SE(channels, max(channels // 16, 1))
        module = GatedBlock(module, gate, row.conv.activation())
    return row.built(module, geometry.out_channels, s)


# The rows whose activation is not that of the network.
OWN_ACTIVATION = (
    "Shuffle_Block",
    "conv_bn_relu_maxpool",
    "DWConvblock",
    "CBH",
    "LC_Block",
    "Dense",
)
ROWS: dict[str, LayerRow] = {
    "Shuffle_Block": LayerRow(_shuffle_unit),
    "conv_bn_relu_maxpool": LayerRow(_conv_pool),
    "DWConvblock": LayerRow(_separable),
    "CBH": LayerRow(_hardswish_conv),
    "LC_Block": LayerRow(_lcnet_block),
    "Dense": LayerRow(_dense),
    "ADD": LayerRow(_sum, reads_several=True),
    "RepVGGBlock": LayerRow(_repvgg_block),
    "RepConv": LayerRow(_repvgg_block),  # YOLOv7's name
}
