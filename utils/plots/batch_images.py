"""Images of training and validation batches, to look at what the network sees and finds."""

from __future__ import annotations

from pathlib import Path

from utils.batches import LabelledBatch
from utils.draw import draw_detections, draw_targets
from utils.engine.predictor import BatchPrediction
from utils.image_output import write_image
from utils.plots.image_grid import tile_images
from utils.structures import Detections

MAX_IMAGES = 16
MIN_SCORE_DRAWN = 0.25


def save_labelled_batch(path: Path, batch: LabelledBatch, class_names: tuple[str, ...]) -> None:
    """A grid of a batch's images with their labelled boxes."""
    images = [
        draw_targets(batch.image(number), batch.targets(number), class_names)
        for number in range(min(len(batch.paths), MAX_IMAGES))
    ]
    write_image(path, tile_images(images, [file.name for file in batch.paths[:MAX_IMAGES]]))


def save_predicted_batch(
    path: Path, batch: LabelledBatch, prediction: BatchPrediction, class_names: tuple[str, ...]
) -> None:
    """A grid of a batch's images with the boxes found at a score of at least 0.25."""
    images = [
        draw_detections(batch.image(number), _confident(found), class_names)
        for number, found in enumerate(prediction.detections[:MAX_IMAGES])
    ]
    write_image(path, tile_images(images, [file.name for file in batch.paths[:MAX_IMAGES]]))


def _confident(found: Detections) -> Detections:
    return found[found.scores >= MIN_SCORE_DRAWN]
