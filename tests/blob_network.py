"""A network that finds white rectangles on black, so that every true box is known."""

from __future__ import annotations

import cv2
import numpy as np

MAX_FOUND = 32  # per image; rows beyond what is found are empty


class BlobNetwork:
    """Each white rectangle is an object of class 0; one that the input's edge cuts scores less.

    Attributes:
        seen: (B, height, width) of every run.
    """

    def __init__(self, min_side: int = 1, batch_size: int | None = None, stride: int = 32) -> None:
        """Choose what it cannot see.

        Args:
            min_side: rectangles with a shorter side, in pixels of the input, are not found.
            batch_size: images it computes at a time; None for any number.
            stride: of its input.
        """
        self.class_names: tuple[str, ...] = ("box", "other")
        self.stride = stride
        self.input_hw: tuple[int | None, int | None] = (None, None)
        self.known_hw: tuple[int, int] | None = None
        self.batch_size = batch_size
        self.seen: list[tuple[int, int, int]] = []
        self._min_side = min_side

    def run(self, images):
        """(B, 3, H, W) -> (B, MAX_FOUND, 7): centre, size, objectness 1, score in class 0."""
        batch, _, height, width = images.shape
        assert self.batch_size is None or batch <= self.batch_size
        assert height % self.stride == 0 and width % self.stride == 0
        self.seen.append((batch, height, width))
        decoded = np.zeros((batch, MAX_FOUND, 7), np.float32)
        for rows, image in zip(decoded, images, strict=True):
            white = (image[0] > 0.7).astype(np.uint8)
            _, _, stats, _ = cv2.connectedComponentsWithStats(white, connectivity=8)
            large = [row for row in stats[1:].tolist() if min(row[2:4]) >= self._min_side]
            for row, (left, top, wide, high, _) in zip(rows, large, strict=False):
                is_whole = 0 < left < left + wide < width and 0 < top < top + high < height
                score = (0.8 if is_whole else 0.4) + 0.1 * wide * high / (height * width)
                row[:] = left + wide / 2, top + high / 2, wide, high, 1, score, 0
        return decoded


def image_with(boxes, image_hw):
    """(H, W, 3) black, with white rectangles of whole pixels: (N, 4) xyxy."""
    image = np.zeros((*image_hw, 3), np.uint8)
    for left, top, right, bottom in boxes:
        image[top:bottom, left:right] = 255
    return image
