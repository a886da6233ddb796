"""Postprocessing: decoded predictions to detections, in numpy. The rules are YOLOv5's.

1. A box is a candidate if its objectness is above the score threshold.
2. Its score in a class is objectness times class probability. It counts for its best class (the
   first of equals), or with `multi_label` for every class, where that score is above the threshold.
   `classes` then drops all other classes.
3. The MAX_CANDIDATES best pairs of box and class, of equals the first, go on.
4. The best pair is kept and those of its class whose boxes overlap its box with an IoU above the
   IoU threshold are dropped; then the best of the rest, and so on up to `max_detections`.

All of it in float32, thresholds included: every comparison is between float32 numbers.
models/runtimes/torch_predictor.py does the same in torch; tests/equivalence/test_postprocess.py
holds both to one reference.

Shapes: N boxes, C classes, P pairs of box and class, K kept ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from utils.boxes import cxcywh_to_xyxy
from utils.structures import BoolArray, Detections, FloatArray, IntArray

MAX_CANDIDATES = 30_000
NMS_CHUNK = 256  # boxes; small enough for the cache, large enough for few calls
CLASS_OFFSET = 7680.0  # px between the boxes of two classes, wider than any network input


@dataclass(frozen=True, slots=True)
class PostprocessConfig:
    """Which boxes become detections.

    Attributes:
        score_threshold: objectness, and score, must be above this (0-1).
        iou_threshold: a box that overlaps a better one of its class more than this is dropped.
        max_detections: at most this many per image.
        multi_label: a box counts once for every class above the threshold, not for the best alone.
        class_agnostic: boxes suppress each other across classes.
        classes: only these class ids; None for all.
    """

    score_threshold: float = 0.25
    iou_threshold: float = 0.45
    max_detections: int = 300
    multi_label: bool = False
    class_agnostic: bool = False
    classes: tuple[int, ...] | None = None


# How AP is measured, by every script: nearly all boxes count, each under several classes.
VAL_POSTPROCESS = PostprocessConfig(
    score_threshold=0.001, iou_threshold=0.6, max_detections=300, multi_label=True
)


def postprocess(decoded: FloatArray, config: PostprocessConfig) -> Detections:
    """The detections of one image.

    Args:
        decoded: (N, 5 + C) rows of centre x, centre y, width, height in pixels of the network
            input, objectness, and C class probabilities.
        config: thresholds and rules.

    Returns:
        Boxes in pixels of the network input, best score first.
    """
    candidates = decoded[decoded[:, 4] > config.score_threshold]
    scores = candidates[:, 5:] * candidates[:, 4:5]
    rows, class_ids = _choose_classes(scores, config)
    chosen_scores = scores[rows, class_ids]
    if len(rows) > MAX_CANDIDATES:
        best = np.argsort(-chosen_scores, kind="stable")[:MAX_CANDIDATES]
        rows, class_ids, chosen_scores = rows[best], class_ids[best], chosen_scores[best]
    boxes = cxcywh_to_xyxy(candidates[rows, :4])
    found = Detections(
        boxes.astype(np.float32, copy=False), chosen_scores.astype(np.float32), class_ids
    )
    suppress_within = np.zeros_like(class_ids) if config.class_agnostic else class_ids
    keep = class_aware_nms(
        found.boxes, found.scores, suppress_within, config.iou_threshold, config.max_detections
    )
    return found[keep]


def class_aware_nms(
    boxes: FloatArray,
    scores: FloatArray,
    class_ids: IntArray,
    iou_threshold: float,
    max_keep: int,
) -> IntArray:
    """`nms` in which only boxes of the same class suppress each other.

    Args:
        boxes: (P, 4) xyxy in pixels of a network input.
        scores: (P,).
        class_ids: (P,).
        iou_threshold: as in `nms`.
        max_keep: as in `nms`, over all classes together.

    Returns:
        (K,) indices of the kept boxes, best score first.
    """
    # Boxes of different classes are moved apart by YOLOv5's 7680 px, in float32 as there: the
    # rounding of the moved boxes decides borderline overlaps, and so decides them as in YOLOv5.
    moved = boxes + (class_ids * CLASS_OFFSET).astype(np.float32)[:, None]
    return nms(moved, scores, iou_threshold, max_keep)


def nms(boxes: FloatArray, scores: FloatArray, iou_threshold: float, max_keep: int) -> IntArray:
    """Greedy non-maximum suppression: keep the best box, drop what overlaps it, and so on.

    Args:
        boxes: (P, 4) xyxy in any unit.
        scores: (P,); equal scores keep their order.
        iou_threshold: a box whose IoU with a better kept one is above this is dropped.
        max_keep: stop after this many.

    Returns:
        (K,) indices of the kept boxes, best score first.
    """
    order = np.argsort(-scores, kind="stable")
    kept = np.zeros(0, np.int64)
    # A chunk at a time, so that the worst boxes are never looked at once enough better ones stay.
    for start in range(0, len(order), NMS_CHUNK):
        if len(kept) >= max_keep:
            break
        chunk = order[start : start + NMS_CHUNK]
        if len(kept):
            chunk = chunk[~_overlaps(boxes[kept], boxes[chunk], iou_threshold).any(0)]
        stays = _undominated(np.triu(_overlaps(boxes[chunk], boxes[chunk], iou_threshold), 1))
        kept = np.concatenate((kept, chunk[stays]))
    return kept[:max_keep]


def _overlaps(first: FloatArray, second: FloatArray, iou_threshold: float) -> BoolArray:
    """(M, N): whether the IoU of each of (M, 4) and each of (N, 4) boxes is above the threshold."""
    left_1, top_1, right_1, bottom_1 = first.T[:, :, None]
    left_2, top_2, right_2, bottom_2 = np.ascontiguousarray(second.T)
    shared = np.minimum(right_1, right_2)
    shared -= np.maximum(left_1, left_2)
    height = np.minimum(bottom_1, bottom_2)
    height -= np.maximum(top_1, top_2)
    shared = np.maximum(shared, 0, out=shared)
    shared *= np.maximum(height, 0, out=height)
    union = (right_1 - left_1) * (bottom_1 - top_1) + (right_2 - left_2) * (bottom_2 - top_2)
    union -= shared
    with np.errstate(invalid="ignore"):  # two empty boxes, 0 / 0: they stay
        shared /= union
    above: BoolArray = shared > iou_threshold
    return above


def _undominated(overlaps: BoolArray) -> BoolArray:
    """(N,) which boxes stay, given (N, N) whether i suppresses j if i stays; only i < j do.

    A box stays where none that stays suppresses it. Each round settles at least the first box
    that is not settled yet, so nothing changes any more after at most N rounds; in practice few.
    """
    stays = np.ones(len(overlaps), np.bool_)
    while True:
        now: BoolArray = ~np.logical_or.reduce(overlaps[stays])
        if np.array_equal(now, stays):
            return stays
        stays = now


def _choose_classes(
    scores: FloatArray, config: PostprocessConfig
) -> tuple[npt.NDArray[np.int64], IntArray]:
    """(P,) row and (P,) class of every (box, class) pair that counts, in row order."""
    if config.multi_label:
        rows, class_ids = np.nonzero(scores > config.score_threshold)
    else:
        class_ids = scores.argmax(axis=1) if len(scores) else np.zeros(0, np.int64)
        rows = np.arange(len(scores))
        above = scores[rows, class_ids] > config.score_threshold
        rows, class_ids = rows[above], class_ids[above]
    if config.classes is not None:
        wanted = np.isin(class_ids, config.classes)
        rows, class_ids = rows[wanted], class_ids[wanted]
    return rows, class_ids.astype(np.int64, copy=False)
