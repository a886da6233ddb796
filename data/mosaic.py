"""Several images made into one: mosaic (four around a random point) and mixup (two blended)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from utils.boxes import clip_boxes
from utils.letterbox import PAD_VALUE
from utils.structures import ImageArray, Targets

NUM_TILES = 4
_MIXUP_BETA = 32.0  # nearly equal parts of both images


def make_mosaic(
    tiles: Sequence[tuple[ImageArray, Targets]], image_size: int, rng: np.random.Generator
) -> tuple[ImageArray, Targets, tuple[tuple[int, int], ...]]:
    """Four images around a random point of a gray canvas twice as wide and high as the input.

    Args:
        tiles: top left, top right, bottom left, bottom right; each touches the point with a corner
            and is cut at the edge of the canvas.
        image_size: side of the network input in pixels.
        rng: draws the point, half an input away from every edge at least.

    Returns:
        The canvas, (2 * image_size, 2 * image_size, 3); all targets in its pixels, clipped to it
        (those outside have no area left; random_affine drops them); and where each tile's top left
        corner is (x, y), perhaps beyond the edge.
    """
    side = 2 * image_size
    canvas = np.full((side, side, 3), PAD_VALUE, np.uint8)
    x, y = (int(value) for value in rng.uniform(image_size / 2, side - image_size / 2, 2))
    parts, corners = [], []
    for number, (image, targets) in enumerate(tiles):
        height, width = image.shape[:2]
        left = x - width if number % 2 == 0 else x
        top = y - height if number < NUM_TILES // 2 else y
        x1, y1 = max(left, 0), max(top, 0)
        x2, y2 = min(left + width, side), min(top + height, side)
        canvas[y1:y2, x1:x2] = image[y1 - top : y2 - top, x1 - left : x2 - left]
        moved = targets.boxes + np.array([left, top, left, top], np.float32)
        parts.append(Targets(clip_boxes(moved, (side, side)), targets.class_ids))
        corners.append((left, top))
    return canvas, Targets.concatenate(parts), tuple(corners)


def mix_up(
    first: tuple[ImageArray, Targets],
    second: tuple[ImageArray, Targets],
    rng: np.random.Generator,
) -> tuple[ImageArray, Targets]:
    """Blend two images of one size with weights near 0.5; returns the targets of both."""
    weight = float(rng.beta(_MIXUP_BETA, _MIXUP_BETA))
    blended = cv2.addWeighted(first[0], weight, second[0], 1 - weight, 0)
    return np.asarray(blended, np.uint8), Targets.concatenate([first[1], second[1]])
