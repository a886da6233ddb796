"""Raw head maps -> decoded predictions, in numpy, for exported files that end in the raw maps.

Shapes: B images, A anchors per cell, C classes, H W cells, N = sum of A * H * W.
The torch side has the same equations in models/network/box_coder.py; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from utils.structures import FloatArray


@dataclass(frozen=True, slots=True)
class RawHeads:
    """How the maps of one network become boxes.

    Attributes:
        anchors: per level the (width, height) of its anchors in input pixels.
        strides: input pixels per cell, one per level.
        sigmoid_done: the maps are already probabilities.
        rows_last: the maps are (B, H, W, A * (5 + C)).
    """

    anchors: tuple[tuple[tuple[float, float], ...], ...]
    strides: tuple[int, ...]
    sigmoid_done: bool = False
    rows_last: bool = False

    def decode(self, maps: Sequence[FloatArray]) -> FloatArray:
        """Maps (B, A * (5 + C), H, W), finest level first -> (B, N, 5 + C), boxes in pixels."""
        if self.rows_last:
            maps = [level_map.transpose(0, 3, 1, 2) for level_map in maps]
        levels = zip(maps, self.anchors, self.strides, strict=True)
        return np.concatenate([self._decode_level(*level) for level in levels], axis=1)

    def _decode_level(
        self, level_map: FloatArray, anchors: tuple[tuple[float, float], ...], stride: int
    ) -> FloatArray:
        batch, _, height, width = level_map.shape
        cells = level_map.astype(np.float32, copy=False).reshape(
            batch, len(anchors), -1, height, width
        )
        # (B, A, H, W, 5 + C): the order of boxes that YOLOv5's own decoding has.
        values: FloatArray = np.ascontiguousarray(cells.transpose(0, 1, 3, 4, 2))
        if not self.sigmoid_done:
            with np.errstate(over="ignore"):  # exp(large) is inf, and 1 / inf the 0 that is meant
                np.exp(np.negative(values, out=values), out=values)  # in place: it is large
            np.reciprocal(np.add(values, 1, out=values), out=values)
        grid_y, grid_x = np.mgrid[:height, :width].astype(np.float32)
        corner = np.stack([grid_x, grid_y], axis=-1) - 0.5
        values[..., 0:2] = (2 * values[..., 0:2] + corner) * stride
        sizes = np.array(anchors, np.float32)[:, None, None, :]
        values[..., 2:4] = (2 * values[..., 2:4]) ** 2 * sizes
        decoded: FloatArray = values.reshape(batch, len(anchors) * height * width, -1)
        return decoded
