"""Several images side by side, each under its title."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from utils.draw import DARK_TEXT
from utils.structures import ImageArray
from utils.text_ink import text_ink, write_text

TILE_GAP_COLOR = 255
TITLE_TEXT = 18  # pixels high, above each image of a grid
MAX_TILES = 16


def tile_images(
    images: Sequence[ImageArray],
    titles: Sequence[str] = (),
    *,
    max_side: int = 1920,
    gap: int = 6,
) -> ImageArray:
    """Up to 16 images in a grid as square as possible, each under its title.

    Args:
        images: (H, W, 3) RGB each; sizes may differ, smaller ones are centred in their cell.
        titles: one per image, or none at all.
        max_side: the longer side of the result in pixels; the images are shrunk to fit.
        gap: pixels of white between images.

    Returns:
        (H, W, 3) RGB.
    """
    images = list(images[:MAX_TILES])
    if not images:
        return np.full((gap, gap, 3), TILE_GAP_COLOR, np.uint8)
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    height = max(image.shape[0] for image in images)
    width = max(image.shape[1] for image in images)
    title_h = round(TITLE_TEXT * 1.4) if titles else 0
    spare_h, spare_w = max_side - gap - rows * (gap + title_h), max_side - gap - columns * gap
    scale = min(1.0, spare_h / (rows * height), spare_w / (columns * width))
    cell_h, cell_w = title_h + max(int(height * scale), 1), max(int(width * scale), 1)
    shape = (rows * (cell_h + gap) + gap, columns * (cell_w + gap) + gap, 3)
    grid = np.full(shape, TILE_GAP_COLOR, np.uint8)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        top, left = gap + row * (cell_h + gap), gap + column * (cell_w + gap)
        cell = grid[top : top + cell_h, left : left + cell_w]
        _fill_cell(cell, _shrink(image, scale), titles[number] if titles else "", title_h)
    return grid


def _shrink(image: ImageArray, scale: float) -> ImageArray:
    if scale >= 1.0:
        return image
    height, width = image.shape[:2]
    size = (max(int(width * scale), 1), max(int(height * scale), 1))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _fill_cell(cell: ImageArray, tile: ImageArray, title: str, title_h: int) -> None:
    """Put title and image, centred together, into one cell of the grid."""
    height, width = tile.shape[:2]
    top = (cell.shape[0] - title_h - height) // 2
    left = (cell.shape[1] - width) // 2
    cell[top + title_h : top + title_h + height, left : left + width] = tile
    if title:
        ink = text_ink(title, TITLE_TEXT)
        write_text(cell[:title_h, left:], ink, (1, max(TITLE_TEXT - ink.baseline, 0)), DARK_TEXT)
