"""A short video of shapes that move, turn and bounce, to try detection on video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from data.synthetic.backgrounds import draw_background
from data.synthetic.scenes import Placed, compose, place_shapes
from utils.errors import DatasetError
from utils.letterbox import to_pixels
from utils.output_files import atomic_path
from utils.structures import ImageArray

NUM_FRAMES = 60
FRAMES_PER_SECOND = 20
MIN_SHAPES = 6
GRAIN = 0.02


@dataclass(frozen=True, slots=True)
class Motion:
    """How a shape moves: `velocity` (x, y) in pixels per frame, `spin` in radians per frame."""

    velocity: tuple[float, float]
    spin: float


def clip_hw(size: int) -> tuple[int, int]:
    """Height and width of a clip: video wants even sides."""
    return size * 3 // 8 * 2, size // 2 * 2


def write_clip(path: Path, frames: Iterator[ImageArray], size: int) -> None:
    """Write frames as mp4, `size` wide and three quarters of it high.

    Raises:
        DatasetError: OpenCV was built without a writer for mp4.
    """
    height, width = clip_hw(size)
    with atomic_path(path) as temporary:
        writer = cv2.VideoWriter(
            str(temporary),
            cv2.VideoWriter.fourcc(*"mp4v"),
            FRAMES_PER_SECOND,
            (width, height),
        )
        if not writer.isOpened():
            raise DatasetError(f"{path}: this OpenCV cannot write mp4; install opencv-python")
        for frame in frames:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        writer.release()


def draw_frames(generator: np.random.Generator, image_hw: tuple[int, int]) -> Iterator[ImageArray]:
    """NUM_FRAMES frames, RGB uint8."""
    ground = draw_background(generator, image_hw)
    light_angle = float(generator.uniform(0, 2 * np.pi))
    shapes: list[Placed] = []
    while len(shapes) < MIN_SHAPES:
        shapes = place_shapes(generator, image_hw, light_angle)
    speeds = generator.uniform(-0.015, 0.015, (len(shapes), 2)) * max(image_hw)
    spins = generator.uniform(-0.08, 0.08, len(shapes))
    motions = [
        Motion((float(speed[0]), float(speed[1])), float(spin))
        for speed, spin in zip(speeds, spins, strict=True)
    ]
    for time in range(NUM_FRAMES):
        moved = [
            at_time(shape, motion, time, image_hw)
            for shape, motion in zip(shapes, motions, strict=True)
        ]
        image, _, _ = compose(ground, moved)
        grain = generator.standard_normal(image.shape, np.float32) * np.float32(GRAIN)
        yield to_pixels(image + grain)


def at_time(shape: Placed, motion: Motion, time: int, image_hw: tuple[int, int]) -> Placed:
    """Where a shape is after `time` frames; its centre bounces off the edges of the image."""
    x = _bounce(shape.centre[0] + motion.velocity[0] * time, image_hw[1])
    y = _bounce(shape.centre[1] + motion.velocity[1] * time, image_hw[0])
    return Placed(replace(shape.look, angle=shape.look.angle + motion.spin * time), (x, y))


def _bounce(position: float, limit: int) -> float:
    """A position on a line folded back into 0..limit."""
    folded = position % (2 * limit)
    return min(folded, 2 * limit - folded)
