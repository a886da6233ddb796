"""Batches, labels and hyper-parameters of the training stages, as ours and the peer take them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from data.hyps import HYPS_FOLDER
from utils.batches import Batch
from utils.boxes import xyxy_to_cxcywh
from utils.strict_yaml import find_shipped, read_yaml
from utils.structures import FloatArray

BOXES_PER_IMAGE = 8
NUM_CLASSES = 80
LEVELS = 3


def random_batch(count: int, image_size: int) -> Batch:
    """Noise with random boxes of random classes; the same each time."""
    generator = torch.Generator().manual_seed(0)
    num_boxes = count * BOXES_PER_IMAGE
    corner = torch.rand(num_boxes, 2, generator=generator) * image_size * 0.6
    sides = torch.rand(num_boxes, 2, generator=generator) * image_size * 0.35 + 8
    pixels = torch.randint(0, 256, (count, 3, image_size, image_size), generator=generator)
    return Batch(
        images=pixels.to(torch.uint8),
        image_index=torch.arange(count).repeat_interleave(BOXES_PER_IMAGE),
        class_ids=torch.randint(0, NUM_CLASSES, (num_boxes,), generator=generator),
        boxes=torch.cat((corner, corner + sides), 1).clamp(max=image_size),
        image_ids=(0,) * count,
        letterboxes=(None,) * count,
        paths=(Path(),) * count,
    )


def peer_targets(batch: Batch) -> FloatArray:
    """(M, 6) image, class and cxcywh in 0-1, as the peer's loss takes labels."""
    height, width = batch.images.shape[2:]
    centred = xyxy_to_cxcywh(batch.boxes.numpy()) / np.array([width, height] * 2, np.float32)
    columns = (batch.image_index.numpy()[:, None], batch.class_ids.numpy()[:, None], centred)
    return np.concatenate(columns, 1).astype(np.float32)


def default_hyp() -> dict[str, float]:
    """The hyper-parameters that both train with by default."""
    content = read_yaml(find_shipped("hyp.scratch-low.yaml", HYPS_FOLDER))
    return {name: float(value) for name, value in content.items()}


def scaled_hyp(image_size: int) -> dict[str, float]:
    """The same with the gains that training gives the loss, which the peer's loss wants as such."""
    hyp, levels = default_hyp(), 3 / LEVELS
    gains = {
        "box": hyp["box"] * levels,
        "cls": hyp["cls"] * NUM_CLASSES / 80 * levels,
        "obj": hyp["obj"] * (image_size / 640) ** 2 * levels,
    }
    return {**hyp, **gains, "label_smoothing": 0.0}
