"""Raw predictions to boxes: the only place that knows YOLOv5's box formula.

For logits t and an anchor (w, h) in a cell at (cx, cy):
centre = (2 sigmoid(txy) - 0.5 + c) * stride, size = (2 sigmoid(twh))^2 * anchor.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.network.detector import Detector


def centre_offset(txy_probability: Tensor) -> Tensor:
    """Centre relative to its cell's corner, in cells (-0.5 to 1.5), from sigmoid(txy)."""
    return txy_probability * 2 - 0.5


def size_ratio(twh_probability: Tensor) -> Tensor:
    """Size over anchor size (0 to 4), from sigmoid(twh)."""
    return (twh_probability * 2) ** 2


def split_anchors(raw: Tensor, num_anchors: int) -> Tensor:
    """One level's raw map (B, A * (5 + C), H, W) -> (B, A, H, W, 5 + C)."""
    batch, channels, height, width = raw.shape
    split = raw.view(batch, num_anchors, channels // num_anchors, height, width)
    return split.permute(0, 1, 3, 4, 2)


@dataclass(frozen=True, slots=True)
class BoxCoder:
    """Decodes one network's raw predictions.

    Attributes:
        anchors: per level, flat (w1, h1, w2, h2, ...) in pixels.
        strides: input pixels per cell, per level.
    """

    anchors: tuple[tuple[float, ...], ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, model: Detector) -> BoxCoder:
        """The coder that fits a network."""
        return cls(model.spec.anchors, model.strides)

    def decode(self, raw_predictions: Sequence[Tensor]) -> Tensor:
        """Raw predictions -> boxes, objectness and class probabilities.

        Args:
            raw_predictions: per level (B, A * (5 + C), H, W) logits.

        Returns:
            (B, N, 5 + C): cx, cy, w, h in input pixels, objectness, class probabilities (0-1).
            N runs over levels, anchors, rows, columns: YOLOv5's order.
        """
        levels = zip(raw_predictions, self.anchors, self.strides, strict=True)
        return torch.cat([_decode_level(*level) for level in levels], 1)


def _decode_level(raw: Tensor, anchors: tuple[float, ...], stride: int) -> Tensor:
    num_anchors = len(anchors) // 2
    batch, _, height, width = raw.shape
    probability = split_anchors(raw, num_anchors).sigmoid()
    xy, wh, rest = torch.split(probability, [2, 2, probability.shape[-1] - 4], -1)
    sizes = raw.new_tensor(anchors).view(1, num_anchors, 1, 1, 2)
    columns = torch.arange(width, device=raw.device, dtype=raw.dtype)
    rows = torch.arange(height, device=raw.device, dtype=raw.dtype)
    cells = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)  # (H, W, 2) as x, y
    centres = (centre_offset(xy) + cells) * stride
    decoded = torch.cat((centres, size_ratio(wh) * sizes, rest), -1)
    return decoded.reshape(batch, num_anchors * height * width, probability.shape[-1])


class DecodedNetwork(nn.Module):
    """(B, 3, H, W) in 0-1 -> (B, N, 5 + C): cx cy w h in pixels, objectness, class scores.

    Args:
        detector: what ends in raw maps.
        half: a copy of it computes in float16, on float16 images. Boxes are decoded in float32:
            float16 has steps of half a pixel beyond 512.
    """

    def __init__(self, detector: Detector, *, half: bool = False) -> None:
        super().__init__()
        self.detector = copy.deepcopy(detector).half() if half else detector
        self.coder = BoxCoder.of(detector)
        self.half_maps = half

    def forward(self, images: Tensor) -> Tensor:
        """The decoded predictions of a batch, YOLOv5's `output0`."""
        maps = self.detector(images)
        return self.coder.decode([each.float() for each in maps] if self.half_maps else maps)
