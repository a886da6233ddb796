"""Detections of a file that suppresses by itself, as predictions that every program understands."""

from __future__ import annotations

import numpy as np

from utils.structures import FloatArray


def as_predictions(detections: FloatArray, num_classes: int) -> FloatArray:
    """(B, K, 6) rows of x1 y1 x2 y2 score class -> (B, K, 5 + C), decoded predictions.

    Objectness is 1 and the score is the class's probability, so that the one post-processing that
    all files share finds the same boxes again: nothing is left to suppress. Rows of zeros, which
    fill up, get a score of 0.
    """
    batch, count, _ = detections.shape
    predictions = np.zeros((batch, count, 5 + num_classes), np.float32)
    corners = detections[..., :4]
    predictions[..., :2] = (corners[..., :2] + corners[..., 2:]) / 2
    predictions[..., 2:4] = corners[..., 2:] - corners[..., :2]
    predictions[..., 4] = 1
    class_ids = detections[..., 5].astype(np.int64)
    np.put_along_axis(predictions[..., 5:], class_ids[..., None], detections[..., 4:5], axis=2)
    return predictions
