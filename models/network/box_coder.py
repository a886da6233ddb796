"""YOLOv5's boxes in torch: raw predictions to boxes, and boxes to raw predictions.

The specification, which models/runtimes/heads.py follows in numpy where torch is not installed;
tests/equivalence/test_box_decoding.py holds both to one float64 reference. For the logits t of an
anchor (w, h) px in the cell at column x and row y of a level with a stride of s px, p = sigmoid(t):

    centre = (2 p_xy - 0.5 + (x, y)) * s    px; from -0.5 to 1.5 cells off the cell's corner
    size = (2 p_wh)^2 * (w, h)              px; from 0 to 4 anchors
    objectness, class probabilities = p     0-1

Boxes are computed in float32, or in the maps' own precision where it is higher: float16 has steps
of half a pixel beyond 512 px. Boxes are ordered by level, anchor, row, column.

Shapes: B images, A anchors per cell, C classes, H W cells of a level, N = sum of A * H * W.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.network.detector import Detector


def centre_offset(probability: Tensor) -> Tensor:
    """sigmoid(txy), 0-1 -> centre relative to its cell's corner, -0.5 to 1.5 cells."""
    return probability * 2 - 0.5


def size_ratio(probability: Tensor) -> Tensor:
    """sigmoid(twh), 0-1 -> size relative to the anchor's, 0 to 4."""
    return (probability * 2) ** 2


def centre_probability(offset: Tensor) -> Tensor:
    """The inverse of `centre_offset`."""
    return (offset + 0.5) / 2


def size_probability(ratio: Tensor) -> Tensor:
    """The inverse of `size_ratio`."""
    return ratio.sqrt() / 2


def boxes_in_cell(probability: Tensor, anchors: Tensor) -> Tensor:
    """Boxes relative to the corner of their cell, as the losses compare them.

    Args:
        probability: (..., 4 or more) sigmoid of the logits.
        anchors: (..., 2) width and height in cells.

    Returns:
        (..., 4) cx, cy, w, h in cells.
    """
    centres = centre_offset(probability[..., :2])
    return torch.cat((centres, size_ratio(probability[..., 2:4]) * anchors), -1)


def split_anchors(raw: Tensor, num_anchors: int) -> Tensor:
    """One level's raw map (B, A * (5 + C), H, W) -> (B, A, H, W, 5 + C)."""
    batch, channels, height, width = raw.shape
    split = raw.view(batch, num_anchors, channels // num_anchors, height, width)
    return split.permute(0, 1, 3, 4, 2)


@dataclass(frozen=True, slots=True)
class BoxCoder:
    """Decodes and encodes the raw predictions of one network: `decode(encode(boxes)) == boxes`.

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
            (B, N, 5 + C): cx, cy, w, h in input pixels, objectness, class probabilities (0-1);
            float32, or float64 for float64 maps.
        """
        maps = [_at_least_float32(raw) for raw in raw_predictions]
        levels = zip(maps, self.anchors, self.strides, strict=True)
        return torch.cat([_decode_level(*level) for level in levels], 1)

    def decode_above(self, raw_predictions: Sequence[Tensor], objectness: float) -> list[Tensor]:
        """`decode`, but only boxes whose objectness is above a threshold.

        Returns:
            Per image (n, 5 + C), in the order in which `decode` has them.
        """
        maps = [_at_least_float32(raw) for raw in raw_predictions]
        levels = [_decode_above(*level, objectness)
                  for level in zip(maps, self.anchors, self.strides, strict=True)]  # fmt: skip
        images = torch.cat([image for image, _ in levels])
        order = images.argsort(stable=True)
        counts = images.bincount(minlength=len(maps[0])).tolist()
        return list(torch.split(torch.cat([rows for _, rows in levels])[order], counts))

    def encode(self, decoded: Tensor, grids_hw: Sequence[tuple[int, int]]) -> tuple[Tensor, ...]:
        """Boxes, objectness and class probabilities -> the raw predictions that decode to them.

        Args:
            decoded: (B, N, 5 + C), as `decode` returns them. A centre must lie within -0.5 to 1.5
                cells of its cell's corner and a size within 0 to 4 anchors; others become NaN.
            grids_hw: per level, rows and columns of cells.

        Returns:
            Per level (B, A * (5 + C), H, W) logits; infinite for probabilities of 0 and 1.
        """
        counts = [
            len(anchors) // 2 * height * width
            for anchors, (height, width) in zip(self.anchors, grids_hw, strict=True)
        ]
        parts = torch.split(decoded, counts, 1)
        levels = zip(parts, self.anchors, self.strides, grids_hw, strict=True)
        return tuple(_encode_level(*level) for level in levels)


def _decode_level(raw: Tensor, anchors: tuple[float, ...], stride: int) -> Tensor:
    num_anchors = len(anchors) // 2
    batch, _, height, width = raw.shape
    probability = split_anchors(raw, num_anchors).sigmoid()
    xy, wh, rest = torch.split(probability, [2, 2, probability.shape[-1] - 4], -1)
    sizes = raw.new_tensor(anchors).view(1, num_anchors, 1, 1, 2)
    corners = _cell_corners(raw, (height, width))
    centres = (centre_offset(xy) + corners) * stride
    decoded = torch.cat((centres, size_ratio(wh) * sizes, rest), -1)
    return decoded.reshape(batch, num_anchors * height * width, probability.shape[-1])


def _decode_above(
    raw: Tensor, anchors: tuple[float, ...], stride: int, objectness: float
) -> tuple[Tensor, Tensor]:
    """(n,) image and (n, 5 + C) values of the boxes above, by image, anchor, row, column."""
    maps = split_anchors(raw, len(anchors) // 2)
    where = (maps[..., 4].sigmoid() > objectness).nonzero(as_tuple=True)
    image, anchor, row, column = where
    probability = maps[where].sigmoid()
    corners, sizes = torch.stack((column, row), 1), raw.new_tensor(anchors).view(-1, 2)[anchor]
    centres = (centre_offset(probability[:, :2]) + corners) * stride
    rows = (centres, size_ratio(probability[:, 2:4]) * sizes, probability[:, 4:])
    return image, torch.cat(rows, 1)


def _encode_level(
    decoded: Tensor, anchors: tuple[float, ...], stride: int, grid_hw: tuple[int, int]
) -> Tensor:
    batch, _, values = decoded.shape
    num_anchors = len(anchors) // 2
    cells = decoded.reshape(batch, num_anchors, *grid_hw, values)
    xy, wh, rest = torch.split(cells, [2, 2, values - 4], -1)
    sizes = decoded.new_tensor(anchors).view(1, num_anchors, 1, 1, 2)
    centres = centre_probability(xy / stride - _cell_corners(decoded, grid_hw))
    probability = torch.cat((centres, size_probability(wh / sizes), rest), -1)
    maps = probability.logit().permute(0, 1, 4, 2, 3)
    return maps.reshape(batch, num_anchors * values, *grid_hw)


def _cell_corners(like: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """(H, W, 2) column and row of each cell, on the device and in the precision of `like`."""
    height, width = grid_hw
    columns = torch.arange(width, device=like.device, dtype=like.dtype)
    rows = torch.arange(height, device=like.device, dtype=like.dtype)
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)


def _at_least_float32(raw: Tensor) -> Tensor:
    # No cast where there is nothing to cast: an exported file would get a node for it.
    dtype = torch.promote_types(raw.dtype, torch.float32)
    return raw if raw.dtype == dtype else raw.to(dtype)
