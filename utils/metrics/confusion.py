"""Counts of which true class was detected as which."""

from __future__ import annotations

import numpy as np

from utils.metrics.overlaps import FloatArray64, Overlaps
from utils.structures import IntArray

SCORE_THRESHOLD, IOU_THRESHOLD = 0.25, 0.45  # YOLOv5's


def confusion_matrix(overlaps: Overlaps, num_classes: int) -> IntArray:
    """Count detections of at least 0.25, paired with objects by their overlap, classes mixed.

    Crowd regions are no objects here.

    Returns:
        (C + 1, C + 1) indexed [predicted, true]. The last row counts objects that nothing found,
        the last column detections where no object is.
    """
    found, true = overlaps.detections, overlaps.objects
    confident, counts = found.scores >= SCORE_THRESHOLD, ~true.crowd
    kept = confident[overlaps.detection] & counts[overlaps.object] & (overlaps.iou > IOU_THRESHOLD)
    pairs = overlaps.detection[kept], overlaps.object[kept]
    detected, objects = match_one_to_one(*pairs, overlaps.iou[kept])
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    np.add.at(matrix, (found.class_ids[detected], true.class_ids[objects]), 1)
    confident[detected], counts[objects] = False, False  # what is left has no partner
    matrix[:-1, -1] = np.bincount(found.class_ids[confident], minlength=num_classes)
    matrix[-1, :-1] = np.bincount(true.class_ids[counts], minlength=num_classes)
    return matrix


def match_one_to_one(
    rows: IntArray, columns: IntArray, iou: FloatArray64
) -> tuple[IntArray, IntArray]:
    """Pair rows with columns, highest overlap first, each used at most once.

    Among equal overlaps the first wins.

    Args:
        rows: (Q,) of the pairs that are possible.
        columns: (Q,) likewise.
        iou: (Q,) overlap of each pair.

    Returns:
        (S,) rows and (S,) columns of the pairs chosen.
    """
    order = np.argsort(-iou, kind="stable")
    pairs: list[tuple[int, int]] = []
    used_rows, used_columns = set[int](), set[int]()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            pairs.append((row, column))
    paired = np.array(pairs, np.int64).reshape(-1, 2)
    return paired[:, 0], paired[:, 1]
