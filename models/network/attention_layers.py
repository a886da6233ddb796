"""Layers that weight channels or positions by what is in the whole map.

Attribute names follow YOLOv5's state dicts where it has the layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.network.layer_rows import BuiltLayer, LayerRow, RowContext, csp_row
from models.network.layers import C3, ConvFactory, plain_block
from models.reparam.rep_block import ConvGeometry


class SE(nn.Module):
    """Squeeze and excitation (Hu et al., CVPR 2018, sec. 3): a factor for each channel.

    Args:
        channels: of input and output.
        hidden: channels between the two fully connected layers.
        gate: the last activation; None is the paper's sigmoid, which keeps factors in 0-1.
    """

    def __init__(self, channels: int, hidden: int, gate: nn.Module | None = None) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)
        self.gate = nn.Sigmoid() if gate is None else gate

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same."""
        mean = x.mean((2, 3), keepdim=True)
        factor: Tensor = self.gate(self.expand(self.reduce(mean).relu()))
        return x * factor


class CBAM(nn.Module):
    """Convolutional block attention (Woo et al., ECCV 2018, eq. 2 and 3).

    A factor for each channel from the mean and the maximum over positions, then one for each
    position from those over channels.
    """

    def __init__(self, channels: int, hidden: int, kernel_size: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1, bias=False)
        self.expand = nn.Conv2d(hidden, channels, 1, bias=False)
        self.spatial = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same."""
        # Both run through the same two layers, so they are rows of one map.
        pooled = torch.cat((x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)), 2)
        x = x * self.expand(self.reduce(pooled).relu()).sum(2, keepdim=True).sigmoid()
        both = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1)
        factor: Tensor = self.spatial(both).sigmoid()
        return x * factor


class CoordAtt(nn.Module):
    """Coordinate attention (Hou et al., CVPR 2021, sec. 3.2): a factor for each row and column."""

    def __init__(self, channels: int, hidden: int, *, conv: ConvFactory) -> None:
        super().__init__()
        self.conv1 = conv.block(plain_block, ConvGeometry(channels, hidden), act=False)
        self.act = nn.Hardswish()
        self.conv_h = nn.Conv2d(hidden, channels, 1)
        self.conv_w = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same."""
        height = x.shape[2]
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)
        joined = self.act(self.conv1(torch.cat((rows, columns), 2)))
        rows, columns = joined[:, :, :height], joined[:, :, height:].transpose(2, 3)
        factor: Tensor = self.conv_h(rows).sigmoid() * self.conv_w(columns).sigmoid()
        return x * factor


class TransformerLayer(nn.Module):
    """Attention and two linear maps, each plus its input; without norms, as in YOLOv5."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.q = nn.Linear(channels, channels, bias=False)
        self.k = nn.Linear(channels, channels, bias=False)
        self.v = nn.Linear(channels, channels, bias=False)
        self.ma = nn.MultiheadAttention(channels, num_heads)
        self.fc1 = nn.Linear(channels, channels, bias=False)
        self.fc2 = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(positions, B, channels) -> the same."""
        # With weights it is matrix products and a softmax, which ONNX has in every opset.
        apart = torch.onnx.is_in_onnx_export()
        x = self.ma(self.q(x), self.k(x), self.v(x), need_weights=apart)[0] + x
        y: Tensor = self.fc2(self.fc1(x)) + x
        return y


class TransformerBlock(nn.Module):
    """Attention between all positions of a map (Dosovitskiy et al., ICLR 2021), in YOLOv5's form.

    The position's code is a linear map of the input itself.
    """

    def __init__(self, channels: int, num_heads: int, num_layers: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, channels)
        self.tr = nn.Sequential(*(TransformerLayer(channels, num_heads) for _ in range(num_layers)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same."""
        positions = x.flatten(2).permute(2, 0, 1)
        y: Tensor = self.tr(positions + self.linear(positions))
        return y.permute(1, 2, 0).reshape(x.shape)


class C3TR(C3):
    """C3 with a transformer block of four heads instead of bottlenecks."""

    HEADS = 4

    @staticmethod
    def chain(
        channels: int, repeats: int, *, shortcut: bool, groups: int, conv: ConvFactory
    ) -> nn.Module:
        """As C3's.

        Raises:
            ValueError: the heads do not divide the channels.
        """
        del shortcut, groups, conv  # a transformer block has no such choice
        if channels % C3TR.HEADS:
            raise ValueError(f"{C3TR.HEADS} heads do not divide {channels} hidden channels")
        return TransformerBlock(channels, C3TR.HEADS, repeats)


def _same_channels(row: RowContext, out: int) -> int:
    channels = row.scaled_channels(out)
    if channels != row.in_channels[0]:
        raise row.refusal("out", channels, f"{row.in_channels[0]} channels, as many as it reads")
    return channels


def _se(row: RowContext, out: int, ratio: int = 16) -> BuiltLayer:
    row.check_integers(ratio=ratio)
    channels = _same_channels(row, out)
    return row.built(SE(channels, max(channels // ratio, 1)), channels)


def _cbam(row: RowContext, out: int, ratio: int = 16, k: int = 7) -> BuiltLayer:
    row.check_integers(ratio=ratio)
    row.check_odd(k=k)
    channels = _same_channels(row, out)
    return row.built(CBAM(channels, max(channels // ratio, 1), k), channels)


def _coord_att(row: RowContext, out: int, reduction: int = 32) -> BuiltLayer:
    row.check_integers(reduction=reduction)
    channels = _same_channels(row, out)
    hidden = max(channels // reduction, 8)  # as in the authors' code
    return row.built(CoordAtt(channels, hidden, conv=row.conv), channels)


ROWS: dict[str, LayerRow] = {
    "SE": LayerRow(_se),
    "CBAM": LayerRow(_cbam),
    "CoordAtt": LayerRow(_coord_att),
    "C3TR": csp_row(C3TR),
}
