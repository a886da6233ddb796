"""Errors of files that suppress by themselves.

Rounding decides which of two equally good boxes is kept, and with it which worse boxes are: lists
of detections of one network differ from runtime to runtime. So a file's detections are not paired
with another list; they are held to the rules of greedy suppression, for PyTorch's predictions:

1. Each is a box of the predictions with one of its best classes, at its score.
2. No two of a class overlap more than the threshold.
3. Each prediction that is not among them overlaps one of its class that scores no less, or scores
   no more than the last one of a full list.

Equal means: as near as `_BORDERLINE` and `_BORDERLINE_IOU`.

Shapes: B images, N boxes of one image, P candidates of one image, K detections of one image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.export.column_errors import ColumnErrors, class_scores, relative_error
from utils.boxes import cxcywh_to_xyxy, pairwise_iou
from utils.postprocess import PostprocessConfig
from utils.structures import Detections, FloatArray

_SAME_BOX = 0.99  # IoU
_MIN_SCORE = 0.1  # thousands of boxes score less, and rounding decides which of them stay
_BORDERLINE = 1e-3  # scores this near to each other, or to the threshold, may change sides
_BORDERLINE_IOU = 1e-2  # a box of ten pixels moves its overlaps by this where it moves by 0.05 px


def detection_errors(
    reference: FloatArray, other: FloatArray, config: PostprocessConfig
) -> ColumnErrors:
    """The errors of what is detected.

    Args:
        reference: (B, N, 5 + C) decoded predictions.
        other: the file's, of which only what it kept remains.
        config: how the file suppresses. Better boxes are kept without regard to worse ones, so
            objects of very low scores can be skipped in the comparison.

    Returns:
        Infinite where the file's detections of an image break a rule.
    """
    config = replace(config, score_threshold=max(config.score_threshold, _MIN_SCORE))
    pairs = [
        _paired(_Candidates.of(expected, config), _kept(found, config), config)
        for expected, found in zip(reference, other, strict=True)
    ]
    if any(pair is None for pair in pairs):
        return ColumnErrors(*(float("inf"),) * 4)
    known = [pair for pair in pairs if pair is not None]
    expected = np.concatenate([pair[0] for pair in known])
    found = np.concatenate([pair[1] for pair in known])
    if not len(expected):
        return ColumnErrors(0.0, 0.0, 0.0, 0.0)
    return ColumnErrors(
        xy=relative_error(expected[:, :2], found[:, :2]),
        wh=relative_error(expected[:, 2:4], found[:, 2:4]),
        objectness=relative_error(expected[:, 4:], found[:, 4:]),
        class_prob=0.0,
    )


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The predictions of one image that may be detections.

    Attributes:
        boxes: (P, 4) xyxy.
        scores: (P,) of the best class.
        classes: (P, C), true for each class that scores as the best.
    """

    boxes: FloatArray
    scores: FloatArray
    classes: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, decoded: FloatArray, config: PostprocessConfig) -> _Candidates:
        """Those of (N, 5 + C) decoded predictions above the threshold, or just below it."""
        by_class = class_scores(decoded)
        best = by_class.max(1)
        above = best > config.score_threshold - _BORDERLINE
        near_best = by_class[above] >= best[above, None] - _BORDERLINE
        return cls(cxcywh_to_xyxy(decoded[above, :4]), best[above], near_best)


def _kept(decoded: FloatArray, config: PostprocessConfig) -> Detections:
    """A file's (K, 5 + C) rows above the threshold."""
    by_class = class_scores(decoded)
    above = by_class.max(1) > config.score_threshold
    return Detections(
        cxcywh_to_xyxy(decoded[above, :4]), by_class[above].max(1), by_class[above].argmax(1)
    )


def _paired(
    candidates: _Candidates, found: Detections, config: PostprocessConfig
) -> tuple[FloatArray, FloatArray] | None:
    """(K, 5) rows of box and score of predictions and detections; None if a rule is broken."""
    of_class = candidates.classes[:, found.class_ids]  # (P, K)
    overlap = np.where(of_class, pairwise_iou(candidates.boxes, found.boxes), 0)
    # Of predictions with nearly the same box, the one with the score is meant.
    gap = np.abs(candidates.scores[:, None] - found.scores[None])
    if not len(found) or not len(candidates.scores):
        partner = np.zeros(0, np.int64)
    else:
        partner = np.where(overlap > _SAME_BOX, overlap - gap, -np.inf).argmax(0)
    if (overlap[partner, np.arange(len(partner))] <= _SAME_BOX).any() or len(partner) < len(found):
        return None
    if _overlapping(found, config) or _missing(candidates, found, overlap, gap, config):
        return None
    expected = np.concatenate(
        [candidates.boxes[partner], candidates.scores[partner, None]], 1
    ).astype(np.float32)
    rows = np.concatenate([found.boxes, found.scores[:, None]], 1).astype(np.float32)
    return expected, rows


def _overlapping(found: Detections, config: PostprocessConfig) -> bool:
    """Whether two detections of a class overlap too much."""
    same = found.class_ids[:, None] == found.class_ids[None]
    overlap = np.where(same, pairwise_iou(found.boxes, found.boxes), 0)
    np.fill_diagonal(overlap, 0)
    return bool((overlap > config.iou_threshold + _BORDERLINE_IOU).any())


def _missing(
    candidates: _Candidates,
    found: Detections,
    overlap: FloatArray,
    gap: FloatArray,
    config: PostprocessConfig,
) -> bool:
    """Whether a prediction is neither a detection nor suppressed by one."""
    floor = config.score_threshold
    if len(found) >= config.max_detections:
        floor = max(floor, float(found.scores.min()))
    wanted = candidates.scores > floor + _BORDERLINE
    no_worse = found.scores[None] >= candidates.scores[:, None] - _BORDERLINE
    suppressed = (overlap > config.iou_threshold - _BORDERLINE_IOU) & no_worse
    return bool((wanted & ~suppressed.any(1)).any())
