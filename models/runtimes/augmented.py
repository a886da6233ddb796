"""Test-time augmentation: a network that sees each image at three sizes. No torch here.

The rules are YOLOv5's. The image is seen as it is, at 0.83 of its size and mirrored, and at 0.67;
each is padded at the right and below to a multiple of the stride. Boxes go back to pixels of the
image, and the predictions of all three count together: suppression chooses. The first view goes
without the level of the largest stride and the last without that of the smallest, for large objects
are found better in a small image and small ones in a large one. YOLOv5 divides boxes by 0.83; here
they are divided by the scale really applied, which differs by the rounding to pixels.

Shapes: B images, N boxes of one image, C classes, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from models.runtimes.runner import Runner
from utils.errors import ConfigError
from utils.letterbox import PAD_VALUE, round_up_to_stride, scale_pixels
from utils.structures import FloatArray


@dataclass(frozen=True, slots=True)
class View:
    """One way to look at an image: made smaller by `scale`, and perhaps mirrored."""

    scale: float = 1.0
    mirrored: bool = False

    def apply(self, images: FloatArray, stride: int) -> FloatArray:
        """(B, 3, H, W) in 0-1 -> the view of them, height and width multiples of `stride`."""
        if self.mirrored:
            images = images[..., ::-1]
        if self.scale == 1:
            return np.ascontiguousarray(images)
        height, width = self._resized_hw(images)
        # The padding suits the exact scale, as in YOLOv5, not the rounded one.
        sides = [round_up_to_stride(math.ceil(side * self.scale), stride)
                 for side in images.shape[2:]]  # fmt: skip
        padding = scale_pixels(np.full((), PAD_VALUE, np.uint8))
        view = np.full((*images.shape[:2], *sides), padding, np.float32)
        for planes, resized in zip(images, view, strict=True):
            for plane, target in zip(planes, resized, strict=True):
                source = np.ascontiguousarray(plane)
                target[:height, :width] = cv2.resize(
                    source, (width, height), interpolation=cv2.INTER_LINEAR
                )
        return view

    def undo(self, decoded: FloatArray, images: FloatArray) -> FloatArray:
        """Predictions (B, N, 5 + C) of the view of `images` with boxes in pixels of `images`."""
        height, width = images.shape[2:]
        resized_h, resized_w = self._resized_hw(images)
        scale = np.array([resized_w / width, resized_h / height] * 2, np.float32)
        undone = decoded.copy()
        undone[..., :4] /= scale
        if self.mirrored:
            undone[..., 0] = width - undone[..., 0]
        return undone

    def _resized_hw(self, images: FloatArray) -> tuple[int, int]:
        height, width = (max(int(side * self.scale), 1) for side in images.shape[2:])
        return height, width


VIEWS = (View(), View(0.83, mirrored=True), View(0.67))
_USUAL_LEVELS = (3, 4, 5, 2)  # of detectors, the most frequent first


class AugmentedRunner:
    """A network whose every image is seen in three views."""

    def __init__(self, runner: Runner, path: str) -> None:
        """Choose the network.

        Args:
            runner: runs it.
            path: its file, for messages.

        Raises:
            ConfigError: it takes one size only.
        """
        if runner.input_hw != (None, None):
            sides = "x".join("any" if side is None else str(side) for side in runner.input_hw)
            raise ConfigError(
                f"--augment: {path} takes {sides} px only and would have to see each image at "
                "three sizes; give a checkpoint, or a file exported with --dynamic"
            )
        self._runner = runner
        self.class_names = runner.class_names
        self.stride = runner.stride
        self.input_hw: tuple[int | None, int | None] = (None, None)
        self.known_hw = runner.known_hw
        self.batch_size = runner.batch_size
        self.suppresses = runner.suppresses

    def run(self, images: FloatArray) -> FloatArray:
        """(B, 3, H, W) RGB in 0-1 -> (B, N, 5 + C) decoded predictions of all views together."""
        parts = []
        for view in VIEWS:
            seen = view.apply(images, self.stride)
            decoded = self._runner.run(seen)
            cells = (seen.shape[2] // self.stride) * (seen.shape[3] // self.stride)
            # What is left after suppression is ordered by score, and of any number.
            levels = 1 if self.suppresses else num_levels(decoded.shape[1], cells)
            parts.append((view.undo(decoded, images), levels))
        return np.concatenate(without_tails(parts), axis=1)


def num_levels(count: int, cells: int) -> int:
    """How many levels, each of four times as many cells as the next, make `count` predictions.

    Files need not say it: YOLOv5's name only the largest stride.

    Args:
        count: predictions of one image.
        cells: of the level with the largest stride.

    Returns:
        1 where the predictions are not ordered by level, or there is only one.
    """
    if count % cells:
        return 1  # a list of detections
    for levels in _USUAL_LEVELS:
        if (count // cells) % _cells_per_coarsest(levels) == 0:
            return levels
    return 1


def without_tails(parts: Sequence[tuple[FloatArray, int]]) -> list[FloatArray]:
    """Predictions without the last level of the first part and the first level of the last part.

    Args:
        parts: predictions (B, N, 5 + C) ordered by level, finest first, and how many levels;
            those of one level stay whole.
    """
    kept = [decoded for decoded, _ in parts]
    (first, first_levels), (last, last_levels) = parts[0], parts[-1]
    if first_levels > 1:
        coarsest = first.shape[1] // _cells_per_coarsest(first_levels)
        kept[0] = first[:, :-coarsest]
    if last_levels > 1:
        ratio = 4 ** (last_levels - 1)
        finest = last.shape[1] // _cells_per_coarsest(last_levels) * ratio
        kept[-1] = last[:, finest:]
    return kept


def _cells_per_coarsest(levels: int) -> int:
    """1 + 4 + 16 + ...: cells of all levels for each cell of the coarsest."""
    return int((4**levels - 1) // 3)
