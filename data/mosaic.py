"""Mosaics: one training image made of four, as in YOLOv5's recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from data.affine import AffineMap, first_pixel
from utils.boxes import clip_boxes
from utils.letterbox import PAD_VALUE
from utils.structures import ImageArray, Targets

NUM_TILES = 4


@dataclass(frozen=True, slots=True)
class Tile:
    """An image at its place on the canvas.

    Attributes:
        image: (H, W, 3) uint8.
        left: of its top left corner, perhaps beyond the edge of the canvas.
        top: likewise.
        targets: its objects, boxes in pixels of the canvas and clipped to it.
    """

    image: ImageArray
    left: int
    top: int
    targets: Targets

    def shown(self, side: int) -> tuple[int, int, int, int]:
        """x1, y1, x2, y2 of what lies on a canvas of this side."""
        height, width = self.image.shape[:2]
        right, bottom = self.left + width, self.top + height
        return max(self.left, 0), max(self.top, 0), min(right, side), min(bottom, side)

    def part(self, x1: int, y1: int, x2: int, y2: int) -> ImageArray:
        """Its pixels in a rectangle of the canvas that it covers."""
        return self.image[y1 - self.top : y2 - self.top, x1 - self.left : x2 - self.left]


class _Stretch(NamedTuple):
    """Whole pixels of the canvas, along x or y, and the whole pixels of the output they fill."""

    start: int
    end: int
    output_start: int
    output_end: int

    @property
    def scale_and_shift(self) -> tuple[float, float]:
        """By which a coordinate of the canvas is multiplied, and what is added, for the output."""
        scale = (self.output_end - self.output_start) / (self.end - self.start)
        return scale, self.output_start - scale * self.start


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

    @property
    def targets(self) -> Targets:
        """All objects, in pixels of the canvas and clipped to it; those outside have no area."""
        return Targets.concatenate([tile.targets for tile in self.tiles])

    def canvas(self) -> ImageArray:
        """The whole canvas, (side, side, 3)."""
        canvas = np.full((*self.hw, 3), PAD_VALUE, np.uint8)
        for tile in self.tiles:
            x1, y1, x2, y2 = tile.shown(self.side)
            canvas[y1:y2, x1:x2] = tile.part(x1, y1, x2, y2)
        return canvas

    def warp(self, affine: AffineMap) -> tuple[ImageArray, Targets]:
        """What a map makes of the canvas, and its objects.

        Where the map keeps rectangles upright no canvas is needed: each tile is resized onto its
        own rectangle of the output, whole pixels onto whole pixels, so that it lies at most half a
        pixel of its own from where the map would put it, and its boxes go exactly with it. A pixel
        belongs to the tile that its middle comes from, and tiles do not blend into their
        neighbours. Resizing takes a third of the time of a warp.
        """
        if not affine.is_upright:
            return affine.warp(self.canvas()), affine.move(self.targets)
        output = np.full((*affine.output_hw, 3), PAD_VALUE, np.uint8)
        kept, moved = [], []
        for tile in self.tiles:
            along_x, along_y = self._stretches(tile, affine)
            if along_x is None or along_y is None:
                continue
            part = tile.part(along_x.start, along_y.start, along_x.end, along_y.end)
            x1, x2, y1, y2 = *along_x[2:], *along_y[2:]
            cv2.resize(part, (x2 - x1, y2 - y1), dst=output[y1:y2, x1:x2])
            (scale_x, shift_x), (scale_y, shift_y) = (
                stretch.scale_and_shift for stretch in (along_x, along_y)
            )
            scale = np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
            shift = np.array([shift_x, shift_y, shift_x, shift_y], np.float32)
            kept.append(tile.targets)
            moved.append(tile.targets.boxes * scale + shift)
        if not kept:
            return output, Targets.empty()
        return output, affine.cut(Targets.concatenate(kept), np.concatenate(moved))

    def _stretches(self, tile: Tile, affine: AffineMap) -> tuple[_Stretch | None, _Stretch | None]:
        """Along x and y; None where no pixel of the output shows the tile."""
        (scale_x, _, shift_x), (_, scale_y, shift_y), _ = affine.matrix.tolist()
        height, width = affine.output_hw
        left, top, right, bottom = tile.shown(self.side)
        return (
            _stretch((left, right), scale_x, shift_x, width),
            _stretch((top, bottom), scale_y, shift_y, height),
        )


def _stretch(
    edges: tuple[int, int], scale: float, shift: float, output_size: int
) -> _Stretch | None:
    """What of a tile between two edges on the canvas is shown, and where."""
    first, last = (min(max(first_pixel(scale * edge + shift), 0), output_size) for edge in edges)
    if first >= last:
        return None
    start, end = (round((pixel - shift) / scale) for pixel in (first, last))
    start = min(max(start, edges[0]), edges[1] - 1)
    return _Stretch(start, min(max(end, start + 1), edges[1]), first, last)


def make_mosaic(
    tiles: Sequence[tuple[ImageArray, Targets]], image_size: int, rng: np.random.Generator
) -> Mosaic:
    """Four images around a random point of a canvas twice as wide and high as the input.

    Args:
        tiles: top left, top right, bottom left, bottom right; each is cut at the canvas' edge.
        image_size: side of the network input in pixels.
        rng: draws the point, half an input away from every edge at least.
    """
    side = 2 * image_size
    x, y = (int(value) for value in rng.uniform(image_size / 2, side - image_size / 2, 2))
    placed = []
    for number, (image, targets) in enumerate(tiles):
        height, width = image.shape[:2]
        left = x - width if number % 2 == 0 else x
        top = y - height if number < NUM_TILES // 2 else y
        moved = targets.boxes + np.array([left, top, left, top], np.float32)
        on_canvas = Targets(clip_boxes(moved, (side, side)), targets.class_ids)
        placed.append(Tile(image, left, top, on_canvas))
    return Mosaic(tuple(placed), side)
