"""Images of overlapping shapes on a background, and the labels of what stays visible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from data.synthetic.backgrounds import Image, draw_background, hsv_to_rgb
from data.synthetic.shapes import CLASS_NAMES, DISTRACTORS, Look, Patch, render
from utils.structures import ImageArray, IntArray, Targets

SMALLEST, LARGEST = 0.1, 0.45  # diameter as a share of the long side
MAX_SHAPES = 8
EMPTY_SHARE = 0.05  # of the images show nothing
DISTRACTOR_SHARE = 0.2  # of the shapes belong to no class
USUAL_HUE_SHARE = 0.7  # of the objects have the hue that is usual for their class
MIN_VISIBLE = 0.3  # an object that shows less of itself is not labelled
MIN_SIDE = 3  # pixels; thinner remains are not labelled
NO_OBJECT = -1


@dataclass(frozen=True, slots=True)
class Placed:
    """A shape and where its centre is, (x, y) in pixels."""

    look: Look
    centre: tuple[float, float]


def draw_scene(
    generator: np.random.Generator, image_hw: tuple[int, int]
) -> tuple[ImageArray, Targets]:
    """One image, RGB uint8, and the objects in it."""
    light_angle = generator.uniform(0, 2 * np.pi)
    shapes = place_shapes(generator, image_hw, light_angle)
    image, topmost, areas = compose(draw_background(generator, image_hw), shapes)
    targets = visible_targets(shapes, topmost, areas)
    return photograph(generator, image), targets


def place_shapes(
    generator: np.random.Generator, image_hw: tuple[int, int], light_angle: float
) -> list[Placed]:
    """Up to eight shapes anywhere in the image, lowest first."""
    height, width = image_hw
    long_side = max(image_hw)
    count = 0 if generator.uniform() < EMPTY_SHARE else int(generator.integers(1, MAX_SHAPES + 1))
    placed = []
    for _ in range(count):
        kinds = DISTRACTORS if generator.uniform() < DISTRACTOR_SHARE else CLASS_NAMES
        outline = kinds[generator.integers(len(kinds))]
        look = Look(
            outline=outline,
            diameter=long_side
            * float(np.exp(generator.uniform(np.log(SMALLEST), np.log(LARGEST)))),
            angle=float(generator.uniform(0, 2 * np.pi)),
            stretch=float(generator.uniform(0.8, 1.0)),
            color=_vivid_color(generator, outline),
            light_angle=light_angle,
        )
        centre = generator.uniform(0.03, 0.97, 2) * (width, height)
        placed.append(Placed(look, (float(centre[0]), float(centre[1]))))
    return placed


def compose(ground: Image, shapes: Sequence[Placed]) -> tuple[Image, IntArray, list[int]]:
    """Lay shapes over a background in order, each with a soft shadow.

    Args:
        ground: (H, W, 3) RGB 0-1.
        shapes: lowest first.

    Returns:
        The image; (H, W) which shape is on top of each pixel (-1: none); and how many pixels each
        shape would have if nothing hid it.
    """
    image = ground.copy()
    topmost = np.full(ground.shape[:2], NO_OBJECT, np.int64)
    areas = []
    for index, shape in enumerate(shapes):
        patch = render(shape.look)
        areas.append(int((patch.alpha > 0.5).sum()))
        _cast_shadow(image, patch, shape)
        window, part = _overlap(image.shape[:2], patch, shape.centre)
        alpha = patch.alpha[part][..., None]
        image[window] += alpha * (patch.color[part] - image[window])
        topmost[window][patch.alpha[part] > 0.5] = index
    return image, topmost, areas


def visible_targets(shapes: Sequence[Placed], topmost: IntArray, areas: Sequence[int]) -> Targets:
    """Boxes around the visible part of each object; distractors and hidden objects are skipped."""
    boxes, class_ids = [], []
    for index, (shape, area) in enumerate(zip(shapes, areas, strict=True)):
        rows, columns = np.nonzero(topmost == index)
        if shape.look.outline not in CLASS_NAMES or len(rows) < max(MIN_VISIBLE * area, 1):
            continue
        box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        if min(box[2] - box[0], box[3] - box[1]) >= MIN_SIDE:
            boxes.append(box)
            class_ids.append(CLASS_NAMES.index(shape.look.outline))
    return Targets(np.array(boxes, np.float32).reshape(-1, 4), np.array(class_ids, np.int64))


def photograph(generator: np.random.Generator, image: Image) -> ImageArray:
    """Simulate a cheap camera: exposure, blur, grain; RGB uint8."""
    exposed = np.clip(image * generator.uniform(0.65, 1.35), 0, 1)
    blurred = _blurred(generator, exposed ** generator.uniform(0.75, 1.35))
    grain = generator.standard_normal(image.shape, np.float32)
    return to_uint8(blurred + grain * generator.uniform(0, 0.07))


def to_uint8(image: Image) -> ImageArray:
    """0-1 to 0-255, clipped."""
    return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)


def _vivid_color(generator: np.random.Generator, outline: str) -> tuple[float, float, float]:
    """Balls are mostly red, stars mostly yellow, ...; any of them may have any hue."""
    hue = generator.uniform()
    if outline in CLASS_NAMES and generator.uniform() < USUAL_HUE_SHARE:
        usual = CLASS_NAMES.index(outline) / len(CLASS_NAMES)
        hue = (usual + generator.normal(0, 0.035)) % 1
    return hsv_to_rgb(hue, generator.uniform(0.35, 0.95), generator.uniform(0.45, 1.0))


def _cast_shadow(image: Image, patch: Patch, shape: Placed) -> None:
    """Darken the image in place where the shape casts its shadow."""
    reach = shape.look.diameter * 0.07
    away = shape.look.light_angle + np.pi
    centre = (
        shape.centre[0] + reach * float(np.cos(away)),
        shape.centre[1] + reach * float(np.sin(away)),
    )
    soft = cv2.GaussianBlur(patch.alpha, (0, 0), max(reach * 0.7, 0.5))
    window, part = _overlap(image.shape[:2], patch, centre)
    image[window] *= 1 - 0.45 * soft[part][..., None]


def _overlap(
    image_hw: tuple[int, ...], patch: Patch, centre: tuple[float, float]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part of the image that a patch covers, and the part of the patch inside the image."""
    side = len(patch.alpha)
    window, part = [], []
    for limit, middle in zip(image_hw, (centre[1], centre[0]), strict=True):
        start = round(middle) - side // 2
        first, last = max(start, 0), max(min(start + side, limit), 0)
        window.append(slice(first, last))
        part.append(slice(first - start, max(last - start, 0)))
    return (window[0], window[1]), (part[0], part[1])


def _blurred(generator: np.random.Generator, image: Image) -> Image:
    """Out of focus in a third of the cases, shaken in a seventh, else sharp."""
    kind = generator.uniform()
    if kind < 0.35:
        return cv2.GaussianBlur(image, (0, 0), float(generator.uniform(0.4, 1.6)))  # type: ignore[return-value]
    if kind < 0.5:
        return cv2.filter2D(image, -1, _motion_kernel(generator))  # type: ignore[return-value]
    return image


def _motion_kernel(generator: np.random.Generator) -> Image:
    """A short line in some direction whose weights sum to 1."""
    length = int(generator.integers(3, 8)) | 1
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1
    turn = cv2.getRotationMatrix2D((length // 2, length // 2), generator.uniform(0, 180), 1)
    line: Image = np.asarray(cv2.warpAffine(kernel, turn, (length, length)), np.float32)
    return np.asarray(line / line.sum(), np.float32)
