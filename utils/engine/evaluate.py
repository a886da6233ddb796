"""Evaluation: run a predictor over a data set and compare its detections with the labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from utils.engine.distributed import Ranks
from utils.engine.predictor import BatchPrediction, Predictor
from utils.logs import Progress
from utils.metrics.coco import CocoMetrics, evaluate_coco
from utils.structures import Batch, Detections, ImageRecord


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        metrics: COCO's figures.
        detections: per image id, in pixels of the original image.
        ms_per_image: milliseconds per image by stage.
        loss: mean box, objectness and class loss, where the predictor has a criterion.
    """

    metrics: CocoMetrics
    detections: Mapping[int, Detections]
    ms_per_image: Mapping[str, float]
    loss: tuple[float, float, float] | None


def evaluate(
    predict: Predictor,
    batches: Iterable[Batch],
    num_batches: int,
    records: Sequence[ImageRecord],
    class_names: Sequence[str],
    *,
    watch: Callable[[Batch, BatchPrediction], None] | None = None,
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
        ranks: the processes that evaluate together; all get the same result.
    """
    ranks = ranks or Ranks()
    detections: dict[int, Detections] = {}
    seconds = np.zeros(3)
    losses: list[tuple[float, float, float]] = []
    for batch in Progress(batches, num_batches, "val"):
        prediction = predict(batch)
        stages = prediction.seconds
        seconds += (stages.preprocess, stages.inference, stages.postprocess)
        if prediction.loss is not None:
            losses.append(prediction.loss)
        images = zip(prediction.detections, batch.image_ids, batch.letterboxes, strict=True)
        for found, image_id, letterbox in images:
            if letterbox is None:
                raise ValueError("evaluation needs letterboxed images, got an augmented one")
            detections[image_id] = found.in_original(letterbox)
        if watch is not None:
            watch(batch, prediction)
    per_image = seconds * 1000 / max(len(detections), 1)
    detections = {
        number: found for part in ranks.gather(detections) for number, found in part.items()
    }
    losses = [loss for part in ranks.gather(losses) for loss in part]
    return Evaluation(
        metrics=evaluate_coco(records, detections, class_names, ranks),
        detections=detections,
        ms_per_image=dict(
            zip(("preprocess", "inference", "postprocess"), per_image.tolist(), strict=True)
        ),
        loss=_mean_loss(losses),
    )


def _mean_loss(
    losses: list[tuple[float, float, float]],
) -> tuple[float, float, float] | None:
    if not losses:
        return None
    box, objectness, class_ = np.mean(losses, axis=0).tolist()
    return box, objectness, class_
