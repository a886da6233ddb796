"""What turns a batch into detections, whatever runs the network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from utils.structures import Batch, Detections


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """Seconds a batch spent in each stage."""

    preprocess: float
    inference: float
    postprocess: float


@dataclass(frozen=True, slots=True)
class BatchPrediction:
    """The detections of each image in pixels of the network input, and what it took.

    Attributes:
        detections: one per image.
        seconds: time per stage for the whole batch.
        loss: box, objectness and class loss of the batch, where a criterion was given.
    """

    detections: list[Detections]
    seconds: StageSeconds
    loss: tuple[float, float, float] | None = None


class Predictor(Protocol):
    """Anything that finds objects in a batch."""

    def __call__(self, batch: Batch) -> BatchPrediction:
        """The detections of a batch of uint8 images."""


def as_one_class(predict: Predictor) -> Predictor:
    """The same predictor with every detection taken as class 0."""

    def predict_one_class(batch: Batch) -> BatchPrediction:
        prediction = predict(batch)
        merged = [
            replace(found, class_ids=np.zeros_like(found.class_ids))
            for found in prediction.detections
        ]
        return replace(prediction, detections=merged)

    return predict_one_class
