"""Images of training and validation batches, to look at what the network sees and finds."""

from __future__ import annotations

from pathlib import Path

import cv2

from utils.batches import LabelledBatch
from utils.draw import draw_detections, draw_targets
from utils.engine.predictor import BatchPrediction
from utils.output_files import atomic_path
from utils.plots.image_grid import tile_images
from utils.structures import Detections, ImageArray

MAX_IMAGES = 16
MIN_SCORE_DRAWN = 0.25


def save_labelled_batch(path: Path, batch: LabelledBatch, class_names: tuple[str, ...]) -> None:
    """A grid of a batch's images with their labelled boxes."""
    images = [
        draw_targets(batch.image(number), batch.targets(number), class_names)
        for number in range(min(len(batch.paths), MAX_IMAGES))
    ]
    _save(path, tile_images(images, [file.name for file in batch.paths[:MAX_IMAGES]]))


def save_predicted_batch(
    path: Path, batch: LabelledBatch, prediction: BatchPrediction, class_names: tuple[str, ...]
) -> None:
    """A grid of a batch's images with the boxes found at a score of at least 0.25."""
    images = [
        draw_detections(batch.image(number), _confident(found), class_names)
        for number, found in enumerate(prediction.detections[:MAX_IMAGES])
    ]
    _save(path, tile_images(images, [file.name for file in batch.paths[:MAX_IMAGES]]))


def _confident(found: Detections) -> Detections:
    return found[found.scores >= MIN_SCORE_DRAWN]


def _save(path: Path, image: ImageArray) -> None:
    with atomic_path(path) as temporary:
        done, content = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if not done:
            raise ValueError(f"{path}: cannot be encoded")
        temporary.write_bytes(content.tobytes())
