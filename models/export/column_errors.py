"""Errors of an exported file's answers against PyTorch's, per group of columns.

Shapes: B images, N boxes of one image, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from utils.structures import FloatArray


@dataclass(frozen=True, slots=True)
class ColumnErrors:
    """Largest relative error, max |a - b| / max |a|, of each group of columns.

    Pixels would hide dead scores in one common figure.

    Attributes:
        xy: of centres, or of left upper corners after suppression.
        wh: of widths and heights, or of right lower corners.
        objectness: of objectness, or of scores where a file ends in scores.
        class_prob: of class probabilities; 0 after suppression (objects of one class are paired).
    """

    xy: float
    wh: float
    objectness: float
    class_prob: float

    @classmethod
    def worst(cls, errors: Sequence[ColumnErrors]) -> ColumnErrors:
        """The largest of each group."""
        return cls(
            xy=max(each.xy for each in errors),
            wh=max(each.wh for each in errors),
            objectness=max(each.objectness for each in errors),
            class_prob=max(each.class_prob for each in errors),
        )

    def by_name(self) -> dict[str, float]:
        """As reports and messages name the groups."""
        return {
            "xy": self.xy,
            "wh": self.wh,
            "objectness": self.objectness,
            "class": self.class_prob,
        }


def group_errors(reference: FloatArray, other: FloatArray) -> ColumnErrors:
    """The errors of decoded predictions (B, N, 5 + C)."""
    return ColumnErrors(
        xy=relative_error(reference[..., :2], other[..., :2]),
        wh=relative_error(reference[..., 2:4], other[..., 2:4]),
        objectness=relative_error(reference[..., 4:5], other[..., 4:5]),
        class_prob=relative_error(reference[..., 5:], other[..., 5:]),
    )


def score_errors(reference: FloatArray, other: FloatArray) -> ColumnErrors:
    """The errors of a file whose boxes have scores instead of objectness and class probabilities.

    Args:
        reference: (B, N, 5 + C) decoded predictions.
        other: the file's: objectness 1, and scores as class probabilities.
    """
    scores, answered = class_scores(reference), class_scores(other)
    return ColumnErrors(
        xy=relative_error(reference[..., :2], other[..., :2]),
        wh=relative_error(reference[..., 2:4], other[..., 2:4]),
        objectness=relative_error(scores.max(-1), answered.max(-1)),
        class_prob=relative_error(scores, answered),
    )


def best_class_errors(reference: FloatArray, other: FloatArray) -> ColumnErrors:
    """The errors of a file that keeps the best class of each box alone.

    Of classes that score alike, rounding chooses: the reference's score of the class that the file
    chose is compared, so that no such choice counts as an error, and any other does.

    Args:
        reference: (B, N, 5 + C) decoded predictions.
        other: the file's: objectness 1, the score at one class, 0 at the others.
    """
    scores, answered = class_scores(reference), class_scores(other)
    chosen = answered.argmax(-1)[..., None]
    return ColumnErrors(
        xy=relative_error(reference[..., :2], other[..., :2]),
        wh=relative_error(reference[..., 2:4], other[..., 2:4]),
        objectness=relative_error(scores.max(-1), answered.max(-1)),
        class_prob=relative_error(
            np.take_along_axis(scores, chosen, -1), np.take_along_axis(answered, chosen, -1)
        ),
    )


def class_scores(decoded: FloatArray) -> FloatArray:
    """(..., 5 + C) decoded predictions -> (..., C) objectness times class probability."""
    scores: FloatArray = decoded[..., 5:] * decoded[..., 4:5]
    return scores


def relative_error(reference: FloatArray, other: FloatArray) -> float:
    """Largest |a - b| / max |a|; infinite where a value is not finite, or differs from zeros."""
    scale = float(np.abs(reference).max())
    difference = float(np.abs(reference - other).max())
    if difference == 0:
        return 0.0
    return difference / scale if scale > 0 and np.isfinite(difference) else float("inf")
