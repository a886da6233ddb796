"""How far two runs of one network are apart, per group of columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from utils.boxes import pairwise_iou
from utils.postprocess import PostprocessConfig, postprocess
from utils.structures import Detections, FloatArray

# Group -> first column, and the one after the last.
GROUPS = {"xy": (0, 2), "wh": (2, 4), "objectness": (4, 5), "class": (5, None)}
_SAME_BOX = 0.99  # IoU
_MIN_SCORE = 0.1  # thousands of boxes score less, and rounding decides which of them stay
_BORDERLINE = 1e-3  # a score this near to the threshold may be on either side of it


def group_errors(reference: FloatArray, other: FloatArray) -> dict[str, float]:
    """Largest relative error per group of columns of decoded predictions (B, N, 5 + C).

    max |a - b| / max |a| over all boxes: pixels would hide dead scores in one common figure.
    """
    return {
        name: _relative(reference[..., first:end], other[..., first:end])
        for name, (first, end) in GROUPS.items()
    }


def detection_errors(
    reference: FloatArray, other: FloatArray, config: PostprocessConfig
) -> dict[str, float]:
    """The same of what is detected, for files that suppress by themselves.

    Args:
        reference: (B, N, 5 + C) decoded predictions.
        other: the same of the file, of which only what it kept is left.
        config: how the file suppresses. Better boxes are kept without regard to worse ones, so
            objects that nearly nothing speaks for can be left out of the comparison.

    Returns:
        Infinite where one of the two finds an object that the other does not.
    """
    config = replace(config, score_threshold=max(config.score_threshold, _MIN_SCORE))
    pairs = [
        _matched(postprocess(expected, config), postprocess(found, config), config)
        for expected, found in zip(reference, other, strict=True)
    ]
    if any(pair is None for pair in pairs):
        return dict.fromkeys(GROUPS, float("inf"))
    known = [pair for pair in pairs if pair is not None]
    expected = np.concatenate([pair[0] for pair in known])
    found = np.concatenate([pair[1] for pair in known])
    if not len(expected):
        return dict.fromkeys(GROUPS, 0.0)
    return {
        "xy": _relative(expected[:, :2], found[:, :2]),
        "wh": _relative(expected[:, 2:4], found[:, 2:4]),
        "objectness": _relative(expected[:, 4:], found[:, 4:]),
        "class": 0.0,  # only objects of one class are paired
    }


def merged(errors: Sequence[dict[str, float]]) -> dict[str, float]:
    """The largest of each group."""
    return {name: max(each[name] for each in errors) for name in GROUPS}


def _relative(reference: FloatArray, other: FloatArray) -> float:
    scale = float(np.abs(reference).max())
    difference = float(np.abs(reference - other).max())
    if difference == 0:
        return 0.0
    return difference / scale if scale > 0 and np.isfinite(difference) else float("inf")


def _matched(
    expected: Detections, found: Detections, config: PostprocessConfig
) -> tuple[FloatArray, FloatArray] | None:
    """Rows of box and score of the objects that both found; None if one misses an object."""
    same = expected.class_ids[:, None] == found.class_ids[None]
    overlap = np.where(same, pairwise_iou(expected.boxes, found.boxes), 0)
    partner = overlap.argmax(1) if len(found) else np.zeros(len(expected), np.int64)
    has = overlap.max(1, initial=0) > _SAME_BOX
    claimed = np.isin(np.arange(len(found)), partner[has])
    alone = np.concatenate([expected.scores[~has], found.scores[~claimed]])
    floor = config.score_threshold
    if len(expected) == config.max_detections:  # more were found: the last ones may be others
        floor = float(expected.scores.min())
    if (alone > floor + _BORDERLINE).any():
        return None
    rows = [
        np.concatenate([each.boxes, each.scores[:, None]], 1).astype(np.float32)
        for each in (expected[has], found[partner[has]])
    ]
    return rows[0], rows[1]
