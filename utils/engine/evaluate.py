"""Evaluation: run a predictor over a data set and compare its detections with the labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from utils.batches import BatchT, LabelledBatch
from utils.engine.predictor import BatchPrediction, Predictor, StageTimes
from utils.logs import Progress
from utils.metrics.coco import CocoMetrics, coco_metrics
from utils.metrics.matches import ImageMatches, match_images
from utils.structures import Detections, ImageRecord

if TYPE_CHECKING:
    from utils.engine.distributed import Ranks  # needs torch, which exported files do without


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        metrics: COCO's figures.
        matches: what they were computed from, for paired comparisons.
        detections: per image id, in pixels of the original image.
        ms_per_image: milliseconds.
        loss: mean box, objectness and class loss, where the predictor has a criterion.
    """

    metrics: CocoMetrics
    matches: ImageMatches
    detections: Mapping[int, Detections]
    ms_per_image: StageTimes
    loss: tuple[float, float, float] | None


def evaluate(
    predict: Predictor[BatchT],
    batches: Iterable[BatchT],
    num_batches: int,
    records: Sequence[ImageRecord],
    class_names: Sequence[str],
    *,
    watch: Callable[[BatchT, BatchPrediction], None] | None = None,
    ranks: Ranks | None = None,
) -> Evaluation:
    """Find objects in all batches and compare them with the labels.

    Args:
        predict: finds objects in one batch.
        batches: letterboxed images; with several ranks, this one's.
        num_batches: how many there are, for the progress.
        records: the images with their labels in original pixels.
        class_names: in class-id order.
        watch: called with every batch and its prediction, to draw images for example.
        ranks: the processes that evaluate together, all of which get the same result; None is this
            one alone.
    """
    detections: dict[int, Detections] = {}
    seconds = np.zeros(3)
    losses: list[tuple[float, float, float]] = []
    for batch in Progress(batches, num_batches, "val"):
        prediction = predict(batch)
        seconds += astuple(prediction.seconds)
        if prediction.loss is not None:
            losses.append(prediction.loss)
        detections |= _in_original(batch, prediction)
        if watch is not None:
            watch(batch, prediction)
    ms_per_image = StageTimes(*(seconds * 1000 / max(len(detections), 1)).tolist())
    if ranks is not None:
        parts = ranks.gather(detections)
        detections = {id_: found for part in parts for id_, found in part.items()}
        losses = [loss for part in ranks.gather(losses) for loss in part]
    matches = match_images(records, detections, len(class_names))
    measure = partial(coco_metrics, matches, class_names)
    # Broadcast, so that all processes agree on the best epoch whatever their CPUs round.
    metrics = measure() if ranks is None else ranks.broadcast(measure)
    return Evaluation(metrics, matches, detections, ms_per_image, _mean_loss(losses))


def _in_original(batch: LabelledBatch, prediction: BatchPrediction) -> dict[int, Detections]:
    """Per image id, in pixels of the original image."""
    found: dict[int, Detections] = {}
    images = zip(prediction.detections, batch.image_ids, batch.letterboxes, strict=True)
    for detections, image_id, letterbox in images:
        if letterbox is None:
            raise ValueError("evaluation needs letterboxed images, got an augmented one")
        found[image_id] = detections.in_original(letterbox)
    return found


def _mean_loss(
    losses: list[tuple[float, float, float]],
) -> tuple[float, float, float] | None:
    if not losses:
        return None
    box, objectness, class_ = np.mean(losses, axis=0).tolist()
    return box, objectness, class_
