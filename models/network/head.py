"""The detection head: one 1x1 convolution per pyramid level."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class DetectHead(nn.Module):
    """Raw predictions from one feature map per level.

    Args:
        in_channels: channels of each level's map, finest first.
        num_anchors: anchors per cell, A.
        num_classes: classes, C.
    """

    def __init__(self, in_channels: Sequence[int], num_anchors: int, num_classes: int) -> None:
        super().__init__()
        self.num_anchors = num_anchors
        self.num_classes = num_classes
        self.m = nn.ModuleList(
            nn.Conv2d(channels, num_anchors * (5 + num_classes), 1) for channels in in_channels
        )

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, ...]:
        """Per level (B, c_i, H, W) -> (B, A * (5 + C), H, W) logits: x y w h objectness classes."""
        return tuple(conv(x) for conv, x in zip(self.m, maps, strict=True))

    @torch.no_grad()
    def set_prior_bias(self, strides: Sequence[int]) -> None:
        """Start objectness at 8 objects in a 640 px image, and classes at 0.6 / C.

        The prior of Lin et al., "Focal Loss for Dense Object Detection" (sec. 3.3), with YOLOv5's
        values; without it the first steps are spent on suppressing objects in every cell.
        """
        for conv, stride in zip(self.m, strides, strict=True):
            if not isinstance(conv, nn.Conv2d) or conv.bias is None:
                raise TypeError("a head level is a convolution with bias")
            bias = conv.bias.view(self.num_anchors, -1)
            bias[:, 4] += math.log(8 / (640 / stride) ** 2)
            bias[:, 5:] += math.log(0.6 / (self.num_classes - 0.99999))
