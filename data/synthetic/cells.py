"""Drawn blood smears under a microscope: red cells, white cells and platelets, and their labels.

Like the photographs of the blood cells that `models/weights/repyolov5n-bccd.pt` was trained on, in
sizes, colors and order of classes; so that training can start from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from data.synthetic.backgrounds import fractal_noise
from data.synthetic.clip import NUM_FRAMES
from utils.letterbox import to_pixels
from utils.structures import ImageArray, Targets

CLASS_NAMES = ("RBC", "WBC", "Platelets")
RED, WHITE, PLATELET = range(3)
RADII = {RED: (0.065, 0.085), WHITE: (0.13, 0.18), PLATELET: (0.022, 0.034)}  # of the long side
COUNTS = {RED: (6, 18), WHITE: (0, 2), PLATELET: (0, 4)}  # per image, ends included
MAX_OVERLAP = 0.75  # centres are at least this share of both radii apart
MIN_INSIDE = 0.3  # share of a cell's box inside the image; others are not labelled
TRIES = 20
Array = npt.NDArray[np.floating[Any]]
Color = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Stain:
    """Colors of one smear, RGB 0-1."""

    ground: Color
    red: Color
    purple: Color

    @classmethod
    def draw(cls, generator: np.random.Generator) -> Stain:
        """Light and stain differ from slide to slide."""
        light = generator.uniform(0.85, 1.0)
        ground = tuple(light * value + generator.normal(0, 0.02) for value in (0.88, 0.84, 0.86))
        red = tuple(light * value + generator.normal(0, 0.03) for value in (0.78, 0.58, 0.60))
        purple = tuple(light * value + generator.normal(0, 0.03) for value in (0.42, 0.22, 0.55))
        return cls(*(_color(each) for each in (ground, red, purple)))


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: its class, centre (x, y) and radius in pixels, width over height, and rotation."""

    class_id: int
    centre: tuple[float, float]
    radius: float
    stretch: float
    angle: float

    def box(self) -> list[float]:
        """The upright box around its ellipse, xyxy."""
        wide, high = self.radius * self.stretch, self.radius
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        half_w, half_h = np.hypot(wide * cosine, high * sine), np.hypot(wide * sine, high * cosine)
        x, y = self.centre
        return [x - half_w, y - half_h, x + half_w, y + half_h]


def draw_smear(
    generator: np.random.Generator, image_hw: tuple[int, int]
) -> tuple[ImageArray, Targets]:
    """One image, RGB uint8, and the cells in it."""
    cells = place_cells(generator, image_hw)
    image = _paint(generator, image_hw, cells)
    return _photograph(generator, image), cell_targets(cells, image_hw)


def draw_slide(generator: np.random.Generator, image_hw: tuple[int, int]) -> Iterator[ImageArray]:
    """NUM_FRAMES frames, RGB uint8: the microscope moves over a larger smear."""
    height, width = image_hw
    large_hw = (height * 3 // 2, width * 3 // 2)
    smear = to_pixels(_paint(generator, large_hw, place_cells(generator, large_hw, width)))
    for frame in range(NUM_FRAMES):
        share = frame / (NUM_FRAMES - 1)
        left = round(share * (large_hw[1] - width))
        top = round((0.5 - 0.5 * np.cos(np.pi * share)) * (large_hw[0] - height))
        yield np.ascontiguousarray(smear[top : top + height, left : left + width])


def place_cells(
    generator: np.random.Generator, image_hw: tuple[int, int], long_side: int | None = None
) -> list[Cell]:
    """Cells that touch and overlap a little, white ones first; sizes are shares of `long_side`."""
    height, width = image_hw
    scale = long_side or max(image_hw)
    area = height * width / (scale * scale * 0.75)
    placed: list[Cell] = []
    for class_id in (WHITE, RED, PLATELET):
        low, high = COUNTS[class_id]
        for _ in range(round(area * int(generator.integers(low, high + 1)))):
            for _ in range(TRIES):
                cell = _random_cell(generator, class_id, image_hw, scale)
                if not any(_is_near(cell, other) for other in placed):
                    placed.append(cell)
                    break
    return placed


def cell_targets(cells: list[Cell], image_hw: tuple[int, int]) -> Targets:
    """Boxes cut at the image; of a cell at its edge enough has to be inside."""
    boxes, class_ids = [], []
    for cell in cells:
        whole = np.array(cell.box())
        cut = whole.clip(0, np.array([image_hw[1], image_hw[0]] * 2))
        areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (cut, whole)]
        if areas[0] >= MIN_INSIDE * areas[1]:
            boxes.append(cut)
            class_ids.append(cell.class_id)
    return Targets(np.array(boxes, np.float32).reshape(-1, 4), np.array(class_ids, np.int64))


def _random_cell(
    generator: np.random.Generator, class_id: int, image_hw: tuple[int, int], scale: float
) -> Cell:
    x, y = generator.uniform(-0.02, 1.02, 2) * (image_hw[1], image_hw[0])
    radius = scale * generator.uniform(*RADII[class_id])
    stretch = generator.uniform(0.85, 1.0)
    return Cell(class_id, (float(x), float(y)), float(radius), float(stretch),
                float(generator.uniform(0, np.pi)))  # fmt: skip


def _is_near(cell: Cell, other: Cell) -> bool:
    distance = np.hypot(cell.centre[0] - other.centre[0], cell.centre[1] - other.centre[1])
    return bool(distance < MAX_OVERLAP * (cell.radius + other.radius))


def _paint(generator: np.random.Generator, image_hw: tuple[int, int], cells: list[Cell]) -> Array:
    """(H, W, 3) RGB 0-1."""
    stain = Stain.draw(generator)
    rough = fractal_noise(generator, image_hw, 3, 4)[..., None]
    image = (np.array(stain.ground, np.float32) * (0.95 + 0.1 * rough)).astype(np.float32)
    for cell in sorted(cells, key=lambda each: each.class_id != RED):  # red ones lie below
        _paint_cell(generator, image, cell, stain)
    return image


def _paint_cell(generator: np.random.Generator, image: Array, cell: Cell, stain: Stain) -> None:
    """Into the image, in place."""
    x1, y1, x2, y2 = cell.box()
    left, top = max(int(x1) - 1, 0), max(int(y1) - 1, 0)
    right, bottom = min(int(x2) + 2, image.shape[1]), min(int(y2) + 2, image.shape[0])
    if left >= right or top >= bottom:
        return
    down, across = np.mgrid[top:bottom, left:right].astype(np.float32) + 0.5
    across, down = across - cell.centre[0], down - cell.centre[1]
    cosine, sine = np.cos(cell.angle), np.sin(cell.angle)
    x = (cosine * across + sine * down) / (cell.radius * cell.stretch)
    y = (cosine * down - sine * across) / cell.radius
    away = np.hypot(x, y)
    alpha = np.clip((1 - away) * cell.radius + 0.5, 0, 1)
    window = image[top:bottom, left:right]
    if cell.class_id == RED:
        paler = 0.14 * np.exp(-((away / 0.45) ** 2)) - 0.1 * np.exp(-(((away - 0.9) / 0.12) ** 2))
        _lay_over(window, np.array(stain.red) + paler[..., None], alpha * 0.9)
    elif cell.class_id == WHITE:
        halo = 0.55 * np.array(stain.ground) + 0.45 * np.array(stain.purple)
        _lay_over(window, halo, alpha * 0.8)
        _lay_over(window, np.array(stain.purple), _nucleus(generator, x, y, cell.radius))
    else:
        speckle = 0.1 * generator.standard_normal(away.shape)
        _lay_over(window, np.array(stain.purple) + speckle[..., None], alpha * 0.85)


def _nucleus(generator: np.random.Generator, x: Array, y: Array, radius: float) -> Array:
    """(H, W) 0-1: two to four lobes inside a unit circle."""
    inside = np.zeros_like(x)
    start, lobes = generator.uniform(0, 2 * np.pi), int(generator.integers(2, 5))
    for number in range(lobes):
        angle, reach = start + number * 2 * np.pi / lobes, generator.uniform(0.25, 0.4)
        away = np.hypot(x - reach * np.cos(angle), y - reach * np.sin(angle))
        inside = np.maximum(inside, np.clip((0.5 - away) * radius + 0.5, 0, 1))
    return inside * 0.95


def _lay_over(window: Array, color: Array, alpha: Array) -> None:
    window += alpha[..., None].astype(np.float32) * (color.astype(np.float32) - window)


def _photograph(generator: np.random.Generator, image: Array) -> ImageArray:
    """Focus, exposure and grain differ from image to image."""
    blurred = cv2.GaussianBlur(image, (0, 0), float(generator.uniform(0.4, 1.1)))
    grain = generator.standard_normal(image.shape, np.float32) * generator.uniform(0, 0.03)
    return to_pixels(np.asarray(blurred, np.float32) * generator.uniform(0.9, 1.1) + grain)


def _color(values: tuple[float, ...]) -> Color:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
