"""Decoded network output -> detections: thresholds, best classes, suppression. YOLOv5's rules.

Shapes: N boxes, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from utils.boxes import cxcywh_to_xyxy
from utils.nms import class_aware_nms, nms
from utils.structures import Detections, FloatArray, IntArray

MAX_CANDIDATES = 30_000  # boxes that may enter suppression, the best ones


@dataclass(frozen=True, slots=True)
class PostprocessConfig:
    """Which boxes become detections.

    Attributes:
        score_threshold: objectness, and score, must be above this.
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
    return found[_suppress(found, config)]


def _choose_classes(
    scores: FloatArray, config: PostprocessConfig
) -> tuple[npt.NDArray[np.int64], IntArray]:
    """Row and class of every (box, class) pair that counts, in row order."""
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


def _suppress(found: Detections, config: PostprocessConfig) -> IntArray:
    if config.class_agnostic:
        return nms(found.boxes, found.scores, config.iou_threshold, config.max_detections)
    return class_aware_nms(
        found.boxes, found.scores, found.class_ids, config.iou_threshold, config.max_detections
    )
