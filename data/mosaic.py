"""Mosaics: one training image made of four, as in YOLOv5's recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from data.affine import AffineMap, first_pixel, pixel_matrix
from utils.boxes import clip_boxes
from utils.letterbox import PAD_VALUE
from utils.structures import ImageArray, Targets

NUM_TILES = 4


class Tile(NamedTuple):
    """An image at its place on the canvas.

    Attributes:
        image: (H, W, 3) uint8.
        left: of its top left corner, perhaps beyond the edge of the canvas.
        top: likewise.
    """

    image: ImageArray
    left: int
    top: int

    def shown(self, side: int) -> tuple[int, int, int, int]:
        """x1, y1, x2, y2 of what lies on a canvas of this side."""
        height, width = self.image.shape[:2]
        right, bottom = self.left + width, self.top + height
        return max(self.left, 0), max(self.top, 0), min(right, side), min(bottom, side)


@dataclass(frozen=True, slots=True)
class Mosaic:
    """Four images around a point of a gray canvas, which touch it with a corner.

    Attributes:
        tiles: top left, top right, bottom left, bottom right.
        side: of the canvas in pixels.
    """

    tiles: tuple[Tile, ...]
    side: int

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width of the canvas."""
        return self.side, self.side

    def canvas(self) -> ImageArray:
        """The whole canvas, (side, side, 3)."""
        canvas = np.full((*self.hw, 3), PAD_VALUE, np.uint8)
        for tile in self.tiles:
            x1, y1, x2, y2 = tile.shown(self.side)
            part = tile.image[y1 - tile.top : y2 - tile.top, x1 - tile.left : x2 - tile.left]
            canvas[y1:y2, x1:x2] = part
        return canvas

    def warp(self, affine: AffineMap) -> ImageArray:
        """`affine.warp(self.canvas())`, but that tiles do not blend into their neighbours.

        Where the map keeps rectangles upright no canvas is needed: each tile goes to its own
        rectangle of the output. A pixel belongs to the tile that its middle comes from.
        """
        if not affine.is_upright:
            return affine.warp(self.canvas())
        output = np.full((*affine.output_hw, 3), PAD_VALUE, np.uint8)
        for tile in self.tiles:
            self._warp_tile(tile, affine, output)
        return output

    def _warp_tile(self, tile: Tile, affine: AffineMap, output: ImageArray) -> None:
        height, width = affine.output_hw
        (scale_x, _, shift_x), (_, scale_y, shift_y), _ = affine.matrix
        left, top, right, bottom = tile.shown(self.side)
        x1, x2 = (min(max(first_pixel(scale_x * edge + shift_x), 0), width)
                  for edge in (left, right))  # fmt: skip
        y1, y2 = (min(max(first_pixel(scale_y * edge + shift_y), 0), height)
                  for edge in (top, bottom))  # fmt: skip
        if x1 >= x2 or y1 >= y2:
            return
        to_tile = np.array([[1, 0, tile.left], [0, 1, tile.top], [0, 0, 1]], np.float64)
        to_part = np.array([[1, 0, -x1], [0, 1, -y1], [0, 0, 1]], np.float64)
        matrix = pixel_matrix(to_part @ affine.matrix @ to_tile)
        output[y1:y2, x1:x2] = cv2.warpAffine(
            tile.image, matrix[:2], (x2 - x1, y2 - y1), borderMode=cv2.BORDER_REPLICATE
        )


def make_mosaic(
    tiles: Sequence[tuple[ImageArray, Targets]], image_size: int, rng: np.random.Generator
) -> tuple[Mosaic, Targets]:
    """Four images around a random point of a canvas twice as wide and high as the input.

    Args:
        tiles: top left, top right, bottom left, bottom right; each is cut at the canvas' edge.
        image_size: side of the network input in pixels.
        rng: draws the point, half an input away from every edge at least.

    Returns:
        The mosaic, and all targets in pixels of its canvas, clipped to it (those outside have no
        area left; AffineMap.move drops them).
    """
    side = 2 * image_size
    x, y = (int(value) for value in rng.uniform(image_size / 2, side - image_size / 2, 2))
    placed, parts = [], []
    for number, (image, targets) in enumerate(tiles):
        height, width = image.shape[:2]
        left = x - width if number % 2 == 0 else x
        top = y - height if number < NUM_TILES // 2 else y
        moved = targets.boxes + np.array([left, top, left, top], np.float32)
        parts.append(Targets(clip_boxes(moved, (side, side)), targets.class_ids))
        placed.append(Tile(image, left, top))
    return Mosaic(tuple(placed), side), Targets.concatenate(parts)
