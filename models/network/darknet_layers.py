"""Cross-stage blocks of YOLOv4 and YOLOv4-tiny (Bochkovskiy et al., 2020; Wang et al., CVPR 2021).

The residual stages of YOLOv3 are rows of Bottleneck, and spatial pyramid pooling is SPP.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.network.layer_rows import BuiltLayer, LayerRow, RowContext
from models.network.layers import Bottleneck, ConvFactory
from models.reparam.rep_block import ConvGeometry


class CSPStage(nn.Module):
    """One stage of CSPDarknet53 after its downsampling convolution.

    Two 1x1 convolutions read the input; residual blocks and another 1x1 follow the first; a 1x1
    joins both. C3 has no convolution after its blocks.

    Args:
        channels: of input and output.
        hidden: of each half.
        inner: between the two convolutions of a residual block.
        repeats: residual blocks.
        conv: makes the convolutions.
    """

    def __init__(
        self, channels: int, hidden: int, inner: int, *, repeats: int, conv: ConvFactory
    ) -> None:
        super().__init__()
        self.cv1 = conv(ConvGeometry(channels, hidden))
        self.cv2 = conv(ConvGeometry(channels, hidden))
        self.cv3 = conv(ConvGeometry(hidden, hidden))
        self.cv4 = conv(ConvGeometry(2 * hidden, channels))
        expansion = inner / hidden
        self.m = nn.Sequential(
            *(Bottleneck(hidden, hidden, expansion=expansion, conv=conv) for _ in range(repeats))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same."""
        y: Tensor = self.cv4(torch.cat((self.cv3(self.m(self.cv1(x))), self.cv2(x)), 1))
        return y


class TinyCSP(nn.Module):
    """YOLOv4-tiny's block: two 3x3 convolutions on the second half, 1x1 over both their outputs."""

    def __init__(self, channels: int, *, conv: ConvFactory) -> None:
        super().__init__()
        half = channels // 2
        self.cv1 = conv(ConvGeometry(half, half, 3))
        self.cv2 = conv(ConvGeometry(half, half, 3))
        self.cv3 = conv(ConvGeometry(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same."""
        first: Tensor = self.cv1(x.chunk(2, 1)[1])
        y: Tensor = self.cv3(torch.cat((self.cv2(first), first), 1))
        return y


def _csp_stage(
    row: RowContext, e: float = 0.5, inner: float = 0.5, act: str | None = None
) -> BuiltLayer:
    """`e`: channels of each half, `inner`: inside residual blocks, as shares; `act`: of its own."""
    channels = row.in_channels[0]
    row.check_expansion(channels, e)
    row.check_expansion(channels, inner)
    module = CSPStage(
        channels,
        int(channels * e),
        int(channels * inner),
        repeats=row.repeats,
        conv=row.conv if act is None else row.activated(act),
    )
    return row.built(module, channels)


def _tiny_csp(row: RowContext) -> BuiltLayer:
    channels = row.in_channels[0]
    if channels % 2:
        raise row.refusal("channels", channels, "an even number")
    return row.built(TinyCSP(channels, conv=row.conv), channels)


ROWS: dict[str, LayerRow] = {
    "CSPStage": LayerRow(_csp_stage, repeats_inside=True),
    "TinyCSP": LayerRow(_tiny_csp),
}
