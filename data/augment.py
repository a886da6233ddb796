"""Random changes of a training image and its boxes, as in YOLOv5's recipe.

Every function is pure: image, targets and a random generator in, new image and targets out.
Images are (H, W, 3) uint8 RGB, boxes xyxy in pixels of the image they come with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import cv2
import numpy as np

from data.affine import AffineMap, MapRanges
from utils.strict_mapping import check_limits
from utils.structures import FloatArray, ImageArray, Targets

MIXUP_BETA = 32.0  # nearly equal parts of both images
_PROBABILITIES = ("flipud", "fliplr", "mosaic", "mixup", "copy_paste")
_ROUND_DOWN = -0.498  # what OpenCV rounds to the nearest level; whole levels stay
_MAX_SHEAR = 89.0  # degrees; at 90 an image is infinitely long
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
        highest = {**dict.fromkeys((*_PROBABILITIES, *_UP_TO_ONE), 1.0), "shear": _MAX_SHEAR}
        check_limits(
            self, **{each.name: (0.0, highest.get(each.name, math.inf)) for each in fields(self)}
        )

    @property
    def ranges(self) -> MapRanges:
        """Of the random maps."""
        return MapRanges(self.degrees, self.translate, self.scale, self.shear, self.perspective)

    @classmethod
    def only(cls, **strengths: float) -> AugmentConfig:
        """These changes and no others; without any, images stay as they are."""
        return cls(**{**{field.name: 0.0 for field in fields(cls)}, **strengths})


def augment_hsv(image: ImageArray, config: AugmentConfig, rng: np.random.Generator) -> ImageArray:
    """Vary hue, saturation and brightness: each level times a factor, rounded down."""
    strength = np.array([config.hsv_h, config.hsv_s, config.hsv_v])
    if not strength.any():
        return image
    factors = 1 + rng.uniform(-1, 1, 3) * strength
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    if 179 * factors[0] <= 255:  # OpenCV turns a hue of 180 and more back into the circle
        matrix = np.full((3, 4), _ROUND_DOWN)
        matrix[:, :3] = np.diag(factors)
        varied = cv2.transform(hsv, matrix, dst=hsv)
    else:
        varied = cv2.LUT(hsv, _levels_times(factors))  # five times as slow
    return np.asarray(cv2.cvtColor(varied, cv2.COLOR_HSV2RGB, dst=hsv), np.uint8)


def _levels_times(factors: FloatArray) -> ImageArray:
    """(1, 256, 3): what becomes of each level of hue, saturation and brightness."""
    levels = np.arange(256)[:, None] * factors
    levels[:, 0] %= 180  # OpenCV's hue counts in steps of two degrees
    table: ImageArray = np.clip(levels, 0, 255).astype(np.uint8)[None]
    return table


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
    """Rotate, scale, shear, shift and tilt an image onto a canvas of `output_hw`."""
    affine = AffineMap.draw((image.shape[0], image.shape[1]), output_hw, config.ranges, rng)
    return affine.warp(image), affine.move(targets)


def mix_up(
    first: tuple[ImageArray, Targets],
    second: tuple[ImageArray, Targets],
    rng: np.random.Generator,
) -> tuple[ImageArray, Targets]:
    """Blend two images of one size with weights near 0.5; returns the targets of both."""
    weight = float(rng.beta(MIXUP_BETA, MIXUP_BETA))
    blended = cv2.addWeighted(first[0], weight, second[0], 1 - weight, 0)
    return np.asarray(blended, np.uint8), Targets.concatenate([first[1], second[1]])
