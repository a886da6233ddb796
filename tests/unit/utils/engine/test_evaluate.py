"""Evaluation in one process and in several."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.utils.metrics.coco_cases import NAMES, random_case
from utils.batches import Batch
from utils.engine.distributed import Ranks
from utils.engine.evaluate import Evaluation, evaluate
from utils.engine.predictor import BatchPrediction, StageTimes
from utils.letterbox import Letterbox
from utils.structures import Detections

LETTERBOX = Letterbox.fit((300, 400), (300, 400))


def batches(records, size: int, letterbox: Letterbox | None = LETTERBOX) -> list[Batch]:
    nothing = torch.zeros(0, dtype=torch.int64)
    parts = [records[start : start + size] for start in range(0, len(records), size)]
    return [
        Batch(
            torch.zeros(len(part), 3, 300, 400, dtype=torch.uint8),
            nothing, nothing, torch.zeros(0, 4),
            tuple(record.image_id for record in part),
            (letterbox,) * len(part),
            (Path(),) * len(part),
        )
        for part in parts
    ]  # fmt: skip


def predictor(found):
    def predict(batch: Batch) -> BatchPrediction:
        detections = [found.get(image_id, Detections.empty()) for image_id in batch.image_ids]
        return BatchPrediction(detections, StageTimes(0.25, 0.5, 0.125), (1.0, 2.0, 3.0))

    return predict


def run(records, found, part, **others) -> Evaluation:
    return evaluate(predictor(found), part, len(part), records, NAMES, **others)


@dataclass(frozen=True)
class OneOfTwo(Ranks):
    """The first of two processes, the second of which has finished."""

    count: int = 2
    other: dict[type, Any] = field(default_factory=dict)

    def gather(self, value: Any) -> list[Any]:
        return [value, self.other[type(value)]]

    def broadcast(self, make: Any) -> Any:
        return make()


def test_figures_of_one_process():
    records, found = random_case(0)
    evaluation = run(records, found, batches(records, 5))
    assert evaluation.ms_per_image == StageTimes(3 * 250 / 12, 3 * 500 / 12, 3 * 125 / 12)
    assert evaluation.loss == (1.0, 2.0, 3.0)
    assert 0.05 < evaluation.metrics.AP < 0.95
    assert set(evaluation.detections) == {record.image_id for record in records}


def test_processes_with_half_of_the_images_find_what_one_finds():
    records, found = random_case(1)
    alone = run(records, found, batches(records, 4))
    second = run(records, found, batches(records[6:], 4))
    ranks = OneOfTwo(other={dict: second.detections, list: [(3.0, 4.0, 5.0)] * 2})
    together = run(records, found, batches(records[:6], 4), ranks=ranks)
    for each in fields(alone.metrics):
        values = (getattr(one.metrics, each.name) for one in (alone, together))
        if each.name == "curves":
            pairs = zip(*(vars_of(curves) for curves in values), strict=True)
            assert all(np.array_equal(a, b) for a, b in pairs)
        else:
            np.testing.assert_equal(*values)
    assert together.detections.keys() == alone.detections.keys()
    assert together.loss == (2.0, 3.0, 4.0)  # of two batches in each process


def vars_of(curves) -> list[np.ndarray]:
    return [getattr(curves, each.name) for each in fields(curves)]


def test_augmented_images_are_refused():
    records, found = random_case(0)
    with pytest.raises(ValueError, match="letterboxed"):
        run(records, found, batches(records, 4, letterbox=None))
