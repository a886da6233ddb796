"""The number-only goldens beside this file, and the dense arrays their compact form stands for.

README.md says what each array holds and where it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from utils.batches import Batch

FOLDER = Path(__file__).resolve().parent
IMAGE_SIZE = 320
NUM_CLASSES = 80
STRIDES = (8, 16, 32)
# yolov5n's, in pixels.
ANCHORS = (
    (10.0, 13.0, 16.0, 30.0, 33.0, 23.0),
    (30.0, 61.0, 62.0, 45.0, 59.0, 119.0),
    (116.0, 90.0, 156.0, 198.0, 373.0, 326.0),
)

Figures = Mapping[str, np.ndarray]


def figures(name: str) -> Figures:
    """Every array of `recipe`, `training` or `detections`."""
    with np.load(FOLDER / f"{name}.npz") as archive:
        return {key: archive[key] for key in archive.files}


def batch_of(targets: np.ndarray, images: torch.Tensor) -> Batch:
    """A batch of 320 px images.

    Args:
        targets: (M, 6) image in batch, class, cxcywh in 0-1.
        images: (B, 3, 320, 320).
    """
    rows = torch.from_numpy(targets)
    centre, half = rows[:, 2:4] * IMAGE_SIZE, rows[:, 4:] * (IMAGE_SIZE / 2)
    count = len(images)
    return Batch(
        images=images,
        image_index=rows[:, 0].long(),
        class_ids=rows[:, 1].long(),
        boxes=torch.cat((centre - half, centre + half), 1),
        image_ids=(0,) * count,
        letterboxes=(None,) * count,
        paths=(Path(),) * count,
    )


def raw_maps(training: Figures, batch: int) -> list[torch.Tensor]:
    """Per level (4, 255, H, W) logits: zero where the loss reads nothing.

    Objectness is there for every anchor, boxes and classes for the responsible ones.
    """
    maps = []
    for level in range(len(STRIDES)):
        objectness = torch.from_numpy(training[f"b{batch}_objectness{level}"])
        split = torch.zeros(*objectness.shape, 5 + NUM_CLASSES)
        image, anchor, row, column, _ = torch.from_numpy(training[f"b{batch}_assign{level}"]).long()
        split[image, anchor, row, column] = torch.from_numpy(
            training[f"b{batch}_responsible{level}"]
        )
        split[..., 4] = objectness
        maps.append(split.permute(0, 1, 4, 2, 3).flatten(1, 2).contiguous())
    return maps


def candidates(detections: Figures, batch: int, image: int) -> np.ndarray:
    """(N, 85) decoded rows that may become detections; class probabilities too small are 0."""
    prefix = f"b{batch}_{image}_"
    boxes = detections[f"{prefix}boxes"]  # (N, 5) cxcywh and objectness
    rows = np.zeros((len(boxes), 5 + NUM_CLASSES), np.float32)
    rows[:, :5] = boxes
    at = detections[f"{prefix}class_row"], 5 + detections[f"{prefix}class_id"].astype(np.int64)
    rows[at] = detections[f"{prefix}class_probability"]
    return rows
