"""Taking all classes as one."""

from __future__ import annotations

import numpy as np

from utils.engine.predictor import BatchPrediction, StageTimes, as_one_class
from utils.structures import Detections


def test_every_detection_becomes_class_0_and_nothing_else_changes():
    found = Detections(
        np.array([[0, 0, 4, 4], [1, 1, 2, 2]], np.float32),
        np.array([0.9, 0.5], np.float32),
        np.array([7, 2]),
    )
    prediction = BatchPrediction([found, Detections.empty()], StageTimes(1, 2, 3), (1, 2, 3))
    merged = as_one_class(lambda batch: prediction)(None)
    assert merged.detections[0].class_ids.tolist() == [0, 0]
    assert merged.detections[0].boxes is found.boxes and merged.detections[0].scores is found.scores
    assert len(merged.detections[1]) == 0
    assert merged.seconds == prediction.seconds and merged.loss == (1, 2, 3)
