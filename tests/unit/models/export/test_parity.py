"""Errors are per group of columns, and an object that only one side finds is not overlooked."""

from __future__ import annotations

import numpy as np
import pytest

from models.export.parity import ColumnErrors, detection_errors, group_errors
from models.runtimes.heads import as_predictions
from utils.postprocess import PostprocessConfig, postprocess

CONFIG = PostprocessConfig(0.25, 0.45, 50)


def predictions(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    boxes = np.concatenate([rng.uniform(20, 80, (2, 60, 2)), rng.uniform(10, 40, (2, 60, 2))], 2)
    return np.concatenate([boxes, rng.random((2, 60, 4))], 2).astype(np.float32)


def suppressed(decoded: np.ndarray) -> np.ndarray:
    """What a file that suppresses by itself would answer, as predictions."""
    rows = np.zeros((len(decoded), 50, 6), np.float32)
    for image, each in enumerate(decoded):
        found = postprocess(each, CONFIG)
        columns = (found.boxes, found.scores[:, None], found.class_ids[:, None])
        rows[image, : len(found)] = np.concatenate(columns, 1)
    return as_predictions(rows, 3)


def test_each_group_has_its_own_scale():
    decoded = predictions()
    other = decoded.copy()
    other[0, 0, 4] = 0  # one dead score among pixels up to 80
    errors = group_errors(decoded, other)
    assert errors.objectness == pytest.approx(decoded[0, 0, 4] / decoded[..., 4].max())
    assert errors.xy == errors.wh == errors.class_prob == 0
    assert group_errors(decoded, decoded * np.nan).xy == float("inf")


def test_what_is_found_again_is_no_error():
    decoded = predictions()
    assert max(detection_errors(decoded, suppressed(decoded), CONFIG).by_name().values()) < 1e-6


@pytest.mark.parametrize("change", ["missing", "moved", "another class"])
def test_what_is_not_found_again(change):
    decoded = predictions()
    other = suppressed(decoded)
    if change == "missing":
        other[0, 0, 5:] = 0
    elif change == "moved":
        other[0, 0, :2] += 5
    else:
        other[0, 0, 5:] = np.roll(other[0, 0, 5:], 1)
    assert detection_errors(decoded, other, CONFIG).xy == float("inf")


def test_a_score_at_the_threshold_may_be_on_either_side():
    decoded = np.array([[[50, 50, 20, 20, 1.0, 0.2505, 0, 0]]], np.float32)
    nothing = np.zeros((1, 5, 8), np.float32)
    assert max(detection_errors(decoded, nothing, CONFIG).by_name().values()) == 0


def test_the_worst_of_several():
    errors = [ColumnErrors(0.1, 0.1, 0.1, 0.1), ColumnErrors(0.2, 0.0, 0.1, 0.3)]
    assert ColumnErrors.worst(errors) == ColumnErrors(0.2, 0.1, 0.1, 0.3)
