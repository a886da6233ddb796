"""The part of an image around a case, as a small JPEG, and where the boxes lie in it."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass

import cv2
import numpy as np

from utils.gallery.cases import Case
from utils.structures import FloatArray, ImageArray

MAX_SIDE = 192  # pixels of a crop
CONTEXT = 1.5  # side of a crop per side of the boxes in it
MIN_SIDE = 48  # pixels of the original that a crop shows
JPEG_QUALITIES = (75, 45, 20)  # the next one where a crop takes more than MAX_BYTES
MAX_BYTES = 12_000
DIGITS = 4  # of positions, as fractions of the crop


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of whole pixels in an image: left, top, right and bottom."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def around(cls, case: Case, image_hw: tuple[int, int]) -> Window:
        """A square around the boxes of a case, moved into the image and cut off where it is small.

        A box of the detection that explains a miss, or of the object that explains a false
        detection, is inside too.
        """
        boxes = [box for box in (case.found, case.labelled) if box is not None]
        corners = np.array(boxes, np.float64).reshape(-1, 2, 2)  # (2, 2): x and y of each corner
        corners = np.clip(np.nan_to_num(corners), 0, image_hw[::-1])
        low, high = corners.min((0, 1)), corners.max((0, 1))
        side = max(float((high - low).max()) * CONTEXT, MIN_SIDE)
        edges = []
        for middle, length in zip((low + high) / 2, image_hw[::-1], strict=True):
            start = min(max(math.floor(middle - side / 2), 0), max(length - math.ceil(side), 0))
            edges.append((start, min(start + math.ceil(side), length)))
        (left, right), (top, bottom) = edges
        return cls(left, top, right, bottom)

    def fractions(self, box: FloatArray | None) -> list[float] | None:
        """A box in pixels of the image as fractions of the window, cut off at its edges."""
        if box is None:
            return None
        start = np.array([self.left, self.top] * 2, np.float64)
        size = np.array([self.right - self.left, self.bottom - self.top] * 2, np.float64)
        fractions: list[float] = (
            np.clip(np.nan_to_num((box - start) / size), 0, 1).round(DIGITS).tolist()
        )
        return fractions


def jpeg_base64(image: ImageArray, window: Window) -> str:
    """The window of an RGB image as JPEG of at most 192 pixels a side, in base64."""
    crop = image[window.top : window.bottom, window.left : window.right]
    height, width = crop.shape[:2]
    scale = MAX_SIDE / max(height, width)
    if scale < 1:
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        crop = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), np.uint8)
    bgr, content = cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), b""
    for quality in JPEG_QUALITIES:
        content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(content) <= MAX_BYTES:
            break
    return base64.b64encode(content).decode("ascii")
