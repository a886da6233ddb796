"""Random affine and perspective maps of training images and their boxes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from utils.boxes import box_area, clip_boxes
from utils.letterbox import PAD_VALUE
from utils.structures import FloatArray, ImageArray, Targets

MIN_SIDE = 2.0  # pixels a box must keep after a warp
MIN_AREA_SHARE = 0.1  # share of its area a box must keep inside the image
MAX_ASPECT = 100.0
GRAY = (PAD_VALUE, PAD_VALUE, PAD_VALUE)
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MapRanges:
    """How far a random map may go; named as in YOLOv5's hyper-parameter yamls.

    Attributes:
        degrees: rotation by up to this angle, both ways.
        translate: shift by up to this share of the width and height.
        scale: size is multiplied by 1 - scale to 1 + scale.
        shear: slant by up to this angle, in x and in y.
        perspective: perspective terms up to this.
    """

    degrees: float
    translate: float
    scale: float
    shear: float
    perspective: float


@dataclass(frozen=True, slots=True)
class AffineMap:
    """A map from an image onto a canvas.

    Attributes:
        matrix: (3, 3), from box coordinates of the image to those of the canvas.
        scale: by which it enlarges, apart from shear and perspective.
        output_hw: height and width of the canvas.
    """

    matrix: Matrix
    scale: float
    output_hw: tuple[int, int]

    @classmethod
    def draw(
        cls,
        image_hw: tuple[int, int],
        output_hw: tuple[int, int],
        ranges: MapRanges,
        rng: np.random.Generator,
    ) -> AffineMap:
        """A random one; the middle of the image goes near that of the canvas."""
        center = np.eye(3)
        center[:2, 2] = -image_hw[1] / 2, -image_hw[0] / 2
        perspective = np.eye(3)
        perspective[2, :2] = rng.uniform(-ranges.perspective, ranges.perspective, 2)
        angle = rng.uniform(-ranges.degrees, ranges.degrees)
        scale = rng.uniform(1 - ranges.scale, 1 + ranges.scale)
        rotation = np.eye(3)
        rotation[:2] = cv2.getRotationMatrix2D((0, 0), angle, scale)
        shear = np.eye(3)
        slants = np.radians(rng.uniform(-ranges.shear, ranges.shear, 2))
        shear[0, 1], shear[1, 0] = np.tan(slants)
        translation = np.eye(3)
        shift = rng.uniform(0.5 - ranges.translate, 0.5 + ranges.translate, 2)
        translation[:2, 2] = shift * (output_hw[1], output_hw[0])
        matrix = translation @ shear @ rotation @ perspective @ center
        return cls(matrix, float(scale), output_hw)

    @property
    def is_affine(self) -> bool:
        """Whether there is no perspective in it."""
        return np.array_equal(self.matrix[2], (0, 0, 1))

    @property
    def is_upright(self) -> bool:
        """Whether it only shifts and enlarges: upright rectangles stay upright."""
        enlarges = self.matrix[0, 0] > 0 and self.matrix[1, 1] > 0
        return self.is_affine and enlarges and not self.matrix[0, 1] and not self.matrix[1, 0]

    def warp(self, image: ImageArray) -> ImageArray:
        """The canvas; what was not in the (H, W, 3) image is gray."""
        if image.shape[:2] == self.output_hw and np.allclose(self.matrix, np.eye(3), atol=1e-9):
            return image
        matrix, size = pixel_matrix(self.matrix), self.output_hw[::-1]
        if self.is_affine:
            warped = cv2.warpAffine(image, matrix[:2], size, borderValue=GRAY)
        else:
            warped = cv2.warpPerspective(image, matrix, size, borderValue=GRAY)
        return np.asarray(warped, np.uint8)

    def move(self, targets: Targets) -> Targets:
        """The upright boxes around the moved corners, as `cut` leaves them."""
        if not len(targets):
            return targets
        corners = targets.boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2).astype(np.float64)
        mapped = corners @ self.matrix[:, :2].T + self.matrix[:, 2]
        points = mapped[..., :2] / mapped[..., 2:]
        around = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
        return self.cut(targets, around.astype(np.float32))

    def cut(self, targets: Targets, moved: FloatArray) -> Targets:
        """Objects with boxes that this map has moved, cut at the canvas.

        Those left with less than 2 pixels, a tenth of their area, or an aspect above 100 are
        dropped.

        Args:
            targets: as they were.
            moved: (N, 4) xyxy, where their boxes have gone.
        """
        left = clip_boxes(moved, self.output_hw)
        keep = _worth_keeping(targets.boxes * np.float32(self.scale), left)
        return Targets(left, targets.class_ids)[keep]


def pixel_matrix(matrix: Matrix) -> Matrix:
    """The (3, 3) matrix that moves pixels as `matrix` moves box coordinates.

    OpenCV's origin is the middle of the first pixel, that of boxes its corner.
    """
    to_corner = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    to_middle = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
    return np.asarray(to_middle @ matrix @ to_corner, np.float64)


def first_pixel(edge: float) -> int:
    """The first pixel whose middle is not before an edge, in pixels."""
    return math.ceil(edge - 0.5)


def _worth_keeping(before: FloatArray, after: FloatArray) -> npt.NDArray[np.bool_]:
    """Which boxes still show something, given their sizes before and after."""
    width, height = (after[:, 2:] - after[:, :2]).T
    wide_enough = (width > MIN_SIDE) & (height > MIN_SIDE)
    area_share = box_area(after) / np.maximum(box_area(before), 1e-12)
    longer, shorter = np.maximum(width, height), np.minimum(width, height)
    keep: npt.NDArray[np.bool_] = (
        wide_enough & (area_share > MIN_AREA_SHARE) & (longer < MAX_ASPECT * shorter)
    )
    return keep
