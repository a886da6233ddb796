"""What turns a batch into detections, whatever runs the network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np

from utils.batches import BatchT, LabelledBatch
from utils.structures import Detections

TakenT = TypeVar("TakenT", bound=LabelledBatch, contravariant=True)


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Time spent in each stage; the unit is said where the value is."""

    preprocess: float
    inference: float
    postprocess: float


@dataclass(frozen=True, slots=True)
class BatchPrediction:
    """What was found in a batch, and what it took.

    Attributes:
        detections: one per image, in pixels of the network input.
        seconds: of the whole batch.
        loss: box, objectness and class loss of the batch, where a criterion was given.
    """

    detections: list[Detections]
    seconds: StageTimes
    loss: tuple[float, float, float] | None = None


class Predictor(Protocol[TakenT]):
    """Anything that finds objects in a batch, of tensors or of arrays."""

    def __call__(self, batch: TakenT, /) -> BatchPrediction:
        """Detections in pixels of the network input of a batch of uint8 images."""


def as_one_class(predict: Predictor[BatchT]) -> Predictor[BatchT]:
    """The same predictor with every detection taken as class 0."""

    def predict_one_class(batch: BatchT) -> BatchPrediction:
        prediction = predict(batch)
        merged = [
            replace(found, class_ids=np.zeros_like(found.class_ids))
            for found in prediction.detections
        ]
        return replace(prediction, detections=merged)

    return predict_one_class
