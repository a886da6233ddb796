"""Counts of which true class was detected as which."""

from __future__ import annotations

import numpy as np

from utils.boxes import pairwise_iou
from utils.structures import Detections, FloatArray, IntArray, Targets


class ConfusionMatrix:
    """Sums images into `matrix` (C + 1, C + 1) int64, indexed [predicted, true].

    The last row counts objects that nothing found, the last column detections where no object is.
    """

    def __init__(
        self, num_classes: int, score_threshold: float = 0.25, iou_threshold: float = 0.45
    ) -> None:
        """Start empty; detections below the score threshold do not count."""
        self.num_classes = num_classes
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold
        self.matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)

    def update(self, detections: Detections, targets: Targets) -> None:
        """Add one image; boxes of both are in pixels of the same image."""
        detections = detections[detections.scores >= self.score_threshold]
        iou = pairwise_iou(detections.boxes, targets.boxes)
        found, true = match_one_to_one(iou, self.iou_threshold)
        np.add.at(self.matrix, (detections.class_ids[found], targets.class_ids[true]), 1)
        false_alarms = np.delete(detections.class_ids, found)
        self.matrix[:-1, -1] += np.bincount(false_alarms, minlength=self.num_classes)
        missed = np.delete(targets.class_ids, true)
        self.matrix[-1, :-1] += np.bincount(missed, minlength=self.num_classes)


def match_one_to_one(iou: FloatArray, iou_threshold: float) -> tuple[IntArray, IntArray]:
    """Pair rows with columns, highest overlap first, each used at most once.

    Among equal overlaps the first row wins, and in it the first column.

    Args:
        iou: (N, K) overlaps.
        iou_threshold: a pair must overlap more than this.

    Returns:
        (P,) rows and (P,) columns of the pairs.
    """
    rows, columns = np.nonzero(iou > iou_threshold)
    order = np.argsort(-iou[rows, columns], kind="stable")
    pairs: list[tuple[int, int]] = []
    free_rows, free_columns = set(rows.tolist()), set(columns.tolist())
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row in free_rows and column in free_columns:
            free_rows.remove(row)
            free_columns.remove(column)
            pairs.append((row, column))
    paired = np.array(pairs, np.int64).reshape(-1, 2)
    return paired[:, 0], paired[:, 1]
