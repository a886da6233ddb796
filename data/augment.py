"""Random changes of a training image and its boxes, as in YOLOv5's recipe.

Every function is pure: image, targets and a random generator in, new image and targets out.
Images are (H, W, 3) uint8 RGB, boxes xyxy in pixels of the image they come with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np
import numpy.typing as npt

from utils.boxes import box_area, clip_boxes
from utils.letterbox import PAD_VALUE
from utils.structures import FloatArray, ImageArray, Targets

MIN_SIDE = 2.0  # pixels a box must keep after a warp
MIN_AREA_SHARE = 0.1  # share of its area a box must keep inside the image
MAX_ASPECT = 100.0
_PROBABILITIES = ("flipud", "fliplr", "mosaic", "mixup", "copy_paste")
_UP_TO_ONE = ("hsv_h", "hsv_s", "hsv_v", "translate", "scale")


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """How strongly training images are changed, named as in YOLOv5's hyper-parameter yamls.

    The defaults are those of hyp.scratch-low.

    Attributes:
        hsv_h: hue varies by up to this share of the color circle.
        hsv_s: saturation is multiplied by 1 - hsv_s to 1 + hsv_s.
        hsv_v: brightness, likewise.
        degrees: rotation by up to this angle, both ways.
        translate: shift by up to this share of the width and height.
        scale: size is multiplied by 1 - scale to 1 + scale.
        shear: slant by up to this angle, in x and in y.
        perspective: perspective terms up to this (0.001 is much).
        flipud: probability of turning the image upside down.
        fliplr: probability of mirroring left and right.
        mosaic: probability of making one image of four.
        mixup: probability of blending a mosaic with another one.
        copy_paste: probability of pasting an object again in a mosaic; needs labels with polygons.
    """

    hsv_h: float = 0.015
    hsv_s: float = 0.7
    hsv_v: float = 0.4
    degrees: float = 0.0
    translate: float = 0.1
    scale: float = 0.5
    shear: float = 0.0
    perspective: float = 0.0
    flipud: float = 0.0
    fliplr: float = 0.5
    mosaic: float = 1.0
    mixup: float = 0.0
    copy_paste: float = 0.0

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            high = 1.0 if name in (*_PROBABILITIES, *_UP_TO_ONE) else math.inf
            if not 0 <= value <= high:
                rule = "from 0 to 1" if high == 1.0 else "at least 0"
                raise ValueError(f"{name} is {value!r}, must be {rule}")

    @classmethod
    def only(cls, **strengths: float) -> AugmentConfig:
        """These changes and no others; without any, images stay as they are."""
        return cls(**{**{field.name: 0.0 for field in fields(cls)}, **strengths})


def augment_hsv(image: ImageArray, config: AugmentConfig, rng: np.random.Generator) -> ImageArray:
    """Vary hue, saturation and brightness, each through a table of 256 values."""
    strength = np.array([config.hsv_h, config.hsv_s, config.hsv_v])
    if not strength.any():
        return image
    hue, saturation, brightness = 1 + rng.uniform(-1, 1, 3) * strength
    levels = np.arange(256)
    table = np.stack(
        [
            (levels * hue) % 180,  # OpenCV's hue counts in steps of two degrees
            np.clip(levels * saturation, 0, 255),
            np.clip(levels * brightness, 0, 255),
        ],
        axis=1,
    ).astype(np.uint8)
    varied = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table[None])
    return np.asarray(cv2.cvtColor(varied, cv2.COLOR_HSV2RGB), np.uint8)


def random_flip(
    image: ImageArray, targets: Targets, config: AugmentConfig, rng: np.random.Generator
) -> tuple[ImageArray, Targets]:
    """Turn upside down and mirror, each with its probability."""
    height, width = image.shape[:2]
    upside_down, mirrored = rng.random(2) < (config.flipud, config.fliplr)
    boxes = targets.boxes
    if upside_down:
        image = np.asarray(cv2.flip(image, 0), np.uint8)
        boxes = np.stack(
            [boxes[:, 0], height - boxes[:, 3], boxes[:, 2], height - boxes[:, 1]], axis=1
        )
    if mirrored:
        image = np.asarray(cv2.flip(image, 1), np.uint8)
        boxes = np.stack(
            [width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1
        )
    return image, Targets(boxes, targets.class_ids)


def random_affine(
    image: ImageArray,
    targets: Targets,
    config: AugmentConfig,
    rng: np.random.Generator,
    *,
    output_hw: tuple[int, int],
) -> tuple[ImageArray, Targets]:
    """Rotate, scale, shear, shift and tilt an image onto a canvas of `output_hw`.

    The middle of the image goes to the middle of the canvas, give or take `translate`. Boxes
    become the upright boxes around their four moved corners, cut at the canvas; those left with
    less than 2 pixels, a tenth of their area, or an aspect above 100 are dropped.
    """
    matrix, scale = _draw_matrix(image.shape[:2], output_hw, config, rng)
    if image.shape[:2] != output_hw or not np.allclose(matrix, np.eye(3), atol=1e-9):
        image = _warp(image, matrix, output_hw)
    if not len(targets):
        return image, targets
    moved = clip_boxes(_move_boxes(targets.boxes, matrix), output_hw)
    keep = _worth_keeping(targets.boxes * np.float32(scale), moved)
    return image, Targets(moved, targets.class_ids)[keep]


def _draw_matrix(
    image_hw: tuple[int, ...],
    output_hw: tuple[int, int],
    config: AugmentConfig,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.float64], float]:
    """A random 3x3 matrix from image to canvas, box coordinates, and the scale in it."""
    center = np.eye(3)
    center[:2, 2] = -image_hw[1] / 2, -image_hw[0] / 2
    perspective = np.eye(3)
    perspective[2, :2] = rng.uniform(-config.perspective, config.perspective, 2)
    angle = rng.uniform(-config.degrees, config.degrees)
    scale = rng.uniform(1 - config.scale, 1 + config.scale)
    rotation = np.eye(3)
    rotation[:2] = cv2.getRotationMatrix2D((0, 0), angle, scale)
    shear = np.eye(3)
    slants = np.radians(rng.uniform(-config.shear, config.shear, 2))
    shear[0, 1], shear[1, 0] = np.tan(slants)
    translation = np.eye(3)
    shift = rng.uniform(0.5 - config.translate, 0.5 + config.translate, 2)
    translation[:2, 2] = shift * (output_hw[1], output_hw[0])
    return translation @ shear @ rotation @ perspective @ center, float(scale)


def _warp(
    image: ImageArray, matrix: npt.NDArray[np.float64], output_hw: tuple[int, int]
) -> ImageArray:
    """Move pixels as `matrix` moves box coordinates; what was not in the image becomes gray."""
    # OpenCV's origin is the middle of the first pixel, that of boxes its corner.
    to_corner = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    to_middle = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
    pixels = to_middle @ matrix @ to_corner
    output_wh = (output_hw[1], output_hw[0])
    gray = (PAD_VALUE, PAD_VALUE, PAD_VALUE)
    if np.array_equal(matrix[2], (0, 0, 1)):
        warped = cv2.warpAffine(image, pixels[:2], output_wh, borderValue=gray)
    else:
        warped = cv2.warpPerspective(image, pixels, output_wh, borderValue=gray)
    return np.asarray(warped, np.uint8)


def _move_boxes(boxes: FloatArray, matrix: npt.NDArray[np.float64]) -> FloatArray:
    """The upright boxes around the moved corners of (N, 4) boxes."""
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2).astype(np.float64)
    moved = corners @ matrix[:, :2].T + matrix[:, 2]
    points = moved[..., :2] / moved[..., 2:]
    return np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1).astype(np.float32)


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
