"""Draw images like those of a microscope: red cells, white cells and platelets, with labels.

`python -m examples.blood_cells cells --images 60` writes a YOLO data set into a folder: `images`
and `labels` of `train` and `val` (every fourth image), and `data.yaml`. The classes are those of
models/weights/repyolov5n-bccd.pt, which finds them in the drawn images, too. The tutorial uses it.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from data.synthetic.backgrounds import Image, fractal_noise
from data.synthetic.dataset import label_text
from utils.errors import DatasetError, UserError
from utils.letterbox import to_pixels
from utils.output_files import write_image
from utils.strict_yaml import write_yaml
from utils.structures import ImageArray, Targets

logger = logging.getLogger(__name__)
CLASS_NAMES = ("RBC", "WBC", "Platelets")
IMAGE_HW = (480, 640)
VAL_EVERY = 4
# Radii in pixels, and colors (RGB, 0-1), by class.
RADII = ((42.0, 50.0), (75.0, 95.0), (12.0, 18.0))
GROUND = (0.86, 0.84, 0.82)
RED_RIM, RED_CENTRE = (0.77, 0.60, 0.60), (0.85, 0.76, 0.74)
WHITE_BODY, NUCLEUS = (0.72, 0.62, 0.78), (0.47, 0.28, 0.62)
PLATELET = (0.56, 0.40, 0.66)
MAX_OVERLAP = 0.12  # of the radii: how far a cell reaches into its neighbour
ATTEMPTS = 60


def draw_image(generator: np.random.Generator) -> tuple[ImageArray, Targets]:
    """One image (480, 640, 3), and the boxes of its cells."""
    ground = np.ones((*IMAGE_HW, 3), np.float32) * np.array(GROUND, np.float32)
    ground *= (0.94 + 0.08 * fractal_noise(generator, IMAGE_HW, 3, 2))[..., None]
    cells: list[tuple[int, float, float, float]] = []
    for class_id, (low, high) in ((1, (1, 2)), (0, (10, 18)), (2, (1, 4))):
        for _ in range(int(generator.integers(low, high))):
            cells += _free_cell(generator, class_id, cells)
    boxes = [_draw_cell(generator, ground, *cell) for cell in cells]
    blurred = cv2.GaussianBlur(ground, (0, 0), 1.1)
    grain = generator.normal(0, 0.008, blurred.shape)
    pixels = to_pixels(np.clip(blurred + grain, 0, 1))
    height, width = IMAGE_HW
    clipped = np.clip(np.array(boxes, np.float32), 0, [width, height, width, height])
    class_ids = np.array([cell[0] for cell in cells], np.int64)
    return pixels, Targets(clipped.astype(np.float32), class_ids)


def _free_cell(
    generator: np.random.Generator, class_id: int, cells: Sequence[tuple[int, float, float, float]]
) -> list[tuple[int, float, float, float]]:
    """(class, x, y, radius) where no other cell is; nothing where none was found."""
    height, width = IMAGE_HW
    for _ in range(ATTEMPTS):
        radius = float(generator.uniform(*RADII[class_id]))
        x = float(generator.uniform(0.4 * radius, width - 0.4 * radius))
        y = float(generator.uniform(0.4 * radius, height - 0.4 * radius))
        reach = 1 - MAX_OVERLAP
        if all(np.hypot(x - cx, y - cy) > reach * (radius + other) for _, cx, cy, other in cells):
            return [(class_id, x, y, radius)]
    return []


def _draw_cell(
    generator: np.random.Generator, ground: Image, class_id: int, x: float, y: float, radius: float
) -> tuple[float, float, float, float]:
    """Paint a cell; its box."""
    height, width = IMAGE_HW
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = np.arctan2(rows - y, columns - x)
    lobes = generator.integers(2, 4)
    edge = radius * (1 + 0.04 * np.sin(lobes * angle + generator.uniform(0, 6)))
    distance = np.hypot(rows - y, columns - x) / edge
    tint = generator.uniform(-0.03, 0.03, 3)
    if class_id == 0:
        _paint(ground, distance, np.array(RED_RIM) + tint, 0.9)
        _paint(ground, distance / 0.45, np.array(RED_CENTRE) + tint, 0.6, soft=0.35)
    elif class_id == 1:
        _paint(ground, distance, np.array(WHITE_BODY) + tint, 0.8)
        for _ in range(3):
            shift_x, shift_y = generator.uniform(-0.35, 0.35, 2) * radius
            lobe = np.hypot(rows - y - shift_y, columns - x - shift_x) / (0.5 * radius)
            _paint(ground, lobe, np.array(NUCLEUS) + tint, 0.9)
    else:
        _paint(ground, distance, np.array(PLATELET) + tint, 0.85, soft=0.25)
    inside = distance <= 1
    x_inside, y_inside = columns[inside], rows[inside]
    return (
        float(x_inside.min()), float(y_inside.min()),
        float(x_inside.max() + 1), float(y_inside.max() + 1),
    )  # fmt: skip


def _paint(
    ground: Image, distance: Image, color: Image, opacity: float, *, soft: float = 0.06
) -> None:
    """Blend a color in where `distance` is below 1, softly at the edge."""
    alpha = opacity * np.clip((1 - distance) / soft + 0.5, 0, 1)[..., None]
    ground *= 1 - alpha
    ground += alpha * color


def write_blood_cells(folder: Path, images: int, seed: int = 0) -> Path:
    """Write the data set; the same seed gives the same files.

    Args:
        folder: new or empty.
        images: how many, at least 4.
        seed: of everything random.

    Returns:
        The data yaml.

    Raises:
        DatasetError: the folder holds something, or there are too few images.
    """
    if images < VAL_EVERY:
        raise DatasetError(f"--images {images}: at least {VAL_EVERY} are needed")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DatasetError(f"{folder}: exists and is not empty; name a new folder")
    for number in range(images):
        image, targets = draw_image(np.random.default_rng([seed, number]))
        split = "val" if number % VAL_EVERY == VAL_EVERY - 1 else "train"
        label = folder / "labels" / split / f"{number:04d}.txt"
        photo = folder / "images" / split / f"{number:04d}.jpg"
        for path in (label, photo):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_image(photo, image)
        label.write_text(label_text(targets, IMAGE_HW), encoding="utf-8")
    yaml = folder / "data.yaml"
    splits = {"train": "images/train", "val": "images/val"}
    write_yaml(yaml, {"path": ".", **splits, "names": list(CLASS_NAMES)})
    return yaml


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 2 where an argument is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("--images", type=int, default=60, help="labelled images")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same files")
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        yaml = write_blood_cells(given.out, given.images, given.seed)
    except UserError as error:
        logger.error("error: %s", error)
        return 2
    logger.info("%d images: %s", given.images, yaml)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
