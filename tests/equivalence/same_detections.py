"""Detections against the reference's rows, and the settings with which it made them."""

from __future__ import annotations

import numpy as np

from utils.postprocess import PostprocessConfig
from utils.structures import Detections

VAL = PostprocessConfig(0.001, 0.6, 300, multi_label=True)
DETECT = PostprocessConfig(0.25, 0.45, 1000)


def assert_same_detections(detections: Detections, expected: np.ndarray) -> None:
    """One to one, in any order among equal scores.

    Args:
        detections: what was found.
        expected: (N, 6) rows of x1, y1, x2, y2, score, class.
    """
    assert len(detections) == len(expected)
    # Scores equal to the last digits may swap places with the number of threads.
    np.testing.assert_allclose(detections.scores, expected[:, 4], atol=1e-5)
    distance = np.abs(detections.boxes[:, None] - expected[None, :, :4]).max(2)  # pixels
    score_gap = np.abs(detections.scores[:, None] - expected[:, 4])
    same = (distance < 1e-2) & (detections.class_ids[:, None] == expected[:, 5])
    same &= score_gap < 1e-5
    assert same.any(0).all() and same.any(1).all()
