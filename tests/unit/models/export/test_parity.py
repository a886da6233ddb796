"""Errors are per group of columns, and an object that only one side finds is not overlooked."""

from __future__ import annotations

import numpy as np
import pytest

from models.export.column_errors import (
    ColumnErrors,
    best_class_errors,
    group_errors,
    score_errors,
)
from models.export.suppression_errors import detection_errors
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


@pytest.mark.parametrize("change", ["missing", "moved", "another class", "twice", "another score"])
def test_what_is_not_found_again(change):
    decoded = predictions()
    other = suppressed(decoded)
    if change == "missing":
        other[0, 0, 5:] = 0
    elif change == "moved":
        other[0, 0, :2] += 5
    elif change == "twice":
        other[0, -1] = other[0, 0]
        other[0, -1, 5:] *= 0.99
    elif change == "another class":
        other[0, 0, 5:] = np.roll(other[0, 0, 5:], 1)
    else:
        other[0, 0, 5:] *= 0.7
        assert detection_errors(decoded, other, CONFIG).objectness > 0.2
        return
    assert detection_errors(decoded, other, CONFIG).xy == float("inf")


def test_a_score_at_the_threshold_may_be_on_either_side():
    decoded = np.array([[[50, 50, 20, 20, 1.0, 0.2505, 0, 0]]], np.float32)
    nothing = np.zeros((1, 5, 8), np.float32)
    assert max(detection_errors(decoded, nothing, CONFIG).by_name().values()) == 0


def equal_scores() -> np.ndarray:
    """Boxes in a row, each of which overlaps its neighbours, all of one score."""
    decoded = np.zeros((1, 9, 8), np.float32)
    decoded[0, :, 0] = 20 + 6 * np.arange(9)  # px; of boxes 20 wide: IoU 0.54, then 0.25
    decoded[0, :, 1:6] = (50, 20, 20, 1, 0.5)
    return decoded


@pytest.mark.parametrize("seed", range(5))
def test_of_equal_scores_any_may_be_kept(seed):
    """What rounding changes: the order of equals, and with it which of them are kept."""
    decoded = equal_scores()
    rounded = decoded.copy()
    rounded[0, :, 5] += np.random.default_rng(seed).permutation(9) * np.float32(1e-7)
    kept = postprocess(decoded[0], CONFIG).boxes.tolist()
    others = postprocess(rounded[0], CONFIG).boxes.tolist()
    assert kept != others  # the case is one
    assert max(detection_errors(decoded, suppressed(rounded), CONFIG).by_name().values()) < 1e-5


def test_equal_scores_hide_no_missing_object():
    decoded = equal_scores()
    other = suppressed(decoded)
    other[0, 2] = 0  # nothing left suppresses its neighbours
    assert detection_errors(decoded, other, CONFIG).xy == float("inf")


def test_more_equals_than_there_is_room_for():
    decoded = np.zeros((1, 80, 8), np.float32)
    decoded[0, :, 0] = 40 * np.arange(80)
    decoded[0, :, 1:6] = (50, 20, 20, 1, 0.5)
    other = suppressed(decoded[:, ::-1])  # the last fifty
    assert max(detection_errors(decoded, other, CONFIG).by_name().values()) < 1e-5
    other[0, 0, 5:] = 0  # forty-nine
    assert detection_errors(decoded, other, CONFIG).xy == float("inf")


def test_a_class_that_scores_alike_may_be_chosen():
    decoded = np.array([[[50, 50, 20, 20, 1, 0.6, 0.6, 0.1]]], np.float32)
    for class_id, error in ((0, 0), (1, 0), (2, float("inf"))):
        rows = np.zeros((1, 5, 6), np.float32)
        rows[0, 0] = (40, 40, 60, 60, 0.6, class_id)
        assert detection_errors(decoded, as_predictions(rows, 3), CONFIG).xy == error


def test_nothing_where_nothing_is_expected():
    nothing = np.zeros((1, 5, 8), np.float32)
    assert max(detection_errors(nothing, nothing, CONFIG).by_name().values()) == 0
    found = nothing.copy()
    found[0, 0] = (50, 50, 20, 20, 1, 0.9, 0, 0)
    assert detection_errors(nothing, found, CONFIG).xy == float("inf")


def scored(decoded: np.ndarray) -> np.ndarray:
    """The answer of a file that ends in scores."""
    other = decoded.copy()
    other[..., 5:] *= other[..., 4:5]
    other[..., 4] = 1
    return other


def test_scores_are_compared_with_the_product():
    decoded = predictions()
    assert max(score_errors(decoded, scored(decoded)).by_name().values()) == 0
    assert score_errors(decoded, decoded).class_prob == 0  # the same product
    other = scored(decoded)
    other[..., 5:] /= decoded[..., 4:5]  # as if objectness were forgotten
    assert score_errors(decoded, other).class_prob > 0.1
    assert max(score_errors(decoded, other).by_name().values()) > 0.1


def test_the_best_class_is_compared_alone():
    decoded = predictions()
    scores = scored(decoded)
    best = scores.copy()
    best[..., 5:] = np.where(scores[..., 5:] == scores[..., 5:].max(-1, keepdims=True),
                             scores[..., 5:], 0)  # fmt: skip
    assert max(best_class_errors(decoded, best).by_name().values()) == 0
    other = best.copy()
    other[..., 5:] = np.roll(best[..., 5:], 1, -1)  # every class is another one
    errors = best_class_errors(decoded, other)
    assert errors.objectness == 0 and errors.class_prob > 0.1


def test_the_worst_of_several():
    errors = [ColumnErrors(0.1, 0.1, 0.1, 0.1), ColumnErrors(0.2, 0.0, 0.1, 0.3)]
    assert ColumnErrors.worst(errors) == ColumnErrors(0.2, 0.1, 0.1, 0.3)
