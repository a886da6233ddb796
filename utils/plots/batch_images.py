"""Images of training and validation batches, to look at what the network sees and finds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from utils.draw import draw_detections, draw_targets
from utils.engine.predictor import BatchPrediction
from utils.output_files import atomic_path
from utils.plots.image_grid import tile_images
from utils.structures import Batch, Detections, ImageArray, Targets

MAX_IMAGES = 16
MIN_SCORE_DRAWN = 0.25


def save_labelled_batch(path: Path, batch: Batch, class_names: tuple[str, ...]) -> None:
    """A grid of a batch's images with their labelled boxes."""
    images = [
        draw_targets(image, _targets_of(batch, number), class_names)
        for number, image in enumerate(_images_of(batch))
    ]
    _save(path, tile_images(images, [file.name for file in batch.paths[:MAX_IMAGES]]))


def save_predicted_batch(
    path: Path, batch: Batch, prediction: BatchPrediction, class_names: tuple[str, ...]
) -> None:
    """A grid of a batch's images with the boxes found at a score of at least 0.25."""
    images = [
        draw_detections(image, _confident(found), class_names)
        for image, found in zip(_images_of(batch), prediction.detections, strict=False)
    ]
    _save(path, tile_images(images, [file.name for file in batch.paths[:MAX_IMAGES]]))


def _confident(found: Detections) -> Detections:
    return found[found.scores >= MIN_SCORE_DRAWN]


def _images_of(batch: Batch) -> list[ImageArray]:
    images = batch.images[:MAX_IMAGES].cpu().numpy().transpose(0, 2, 3, 1)
    return [np.ascontiguousarray(image) for image in images]


def _targets_of(batch: Batch, number: int) -> Targets:
    mine = batch.image_index == number
    return Targets(batch.boxes[mine].cpu().numpy(), batch.class_ids[mine].cpu().numpy())


def _save(path: Path, image: ImageArray) -> None:
    with atomic_path(path) as temporary:
        done, content = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if not done:
            raise ValueError(f"{path}: cannot be encoded")
        temporary.write_bytes(content.tobytes())
