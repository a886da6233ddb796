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
from utils.nms import best_in_order, class_aware_nms
from utils.structures import Detections, FloatArray, IntArray

MAX_CANDIDATES = 30_000

SCORE_THRESHOLD, IOU_THRESHOLD = 0.25, 0.45  # where nothing else is asked for


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

    score_threshold: float = SCORE_THRESHOLD
    iou_threshold: float = IOU_THRESHOLD
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
    candidates = decoded[np.flatnonzero(decoded[:, 4] > config.score_threshold)]
    scores = candidates[:, 5:] * candidates[:, 4:5]
    rows, class_ids = _choose_classes(scores, config)
    chosen_scores = scores[rows, class_ids]
    if len(rows) > MAX_CANDIDATES:
        best = best_in_order(chosen_scores, MAX_CANDIDATES)
        rows, class_ids, chosen_scores = rows[best], class_ids[best], chosen_scores[best]
    boxes = cxcywh_to_xyxy(candidates[:, :4]).astype(np.float32, copy=False)
    found = Detections(boxes[rows], chosen_scores.astype(np.float32, copy=False), class_ids)
    suppress_within = np.zeros_like(class_ids) if config.class_agnostic else class_ids
    keep = class_aware_nms(
        found.boxes, found.scores, suppress_within, config.iou_threshold, config.max_detections
    )
    return found[keep]


def _choose_classes(
    scores: FloatArray, config: PostprocessConfig
) -> tuple[npt.NDArray[np.int64], IntArray]:
    """(P,) row and (P,) class of every (box, class) pair that counts, in row order."""
    if config.multi_label:
        # Faster than np.nonzero of two dimensions.
        flat = np.flatnonzero(scores > config.score_threshold)
        rows, class_ids = np.divmod(flat, scores.shape[1])
    else:
        class_ids = scores.argmax(axis=1) if len(scores) else np.zeros(0, np.int64)
        rows = np.arange(len(scores))
        above = scores[rows, class_ids] > config.score_threshold
        rows, class_ids = rows[above], class_ids[above]
    if config.classes is not None:
        wanted = np.isin(class_ids, config.classes)
        rows, class_ids = rows[wanted], class_ids[wanted]
    return rows, class_ids.astype(np.int64, copy=False)
