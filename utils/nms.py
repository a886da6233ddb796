"""Non-maximum suppression in numpy: of boxes that overlap too much, the best one stays."""

from __future__ import annotations

import numpy as np

from utils.structures import FloatArray, IntArray

CLASS_OFFSET = 7680.0  # px between the boxes of two classes, wider than any network input


def nms(boxes: FloatArray, scores: FloatArray, iou_threshold: float, max_keep: int) -> IntArray:
    """Greedy suppression: take the best box, drop what overlaps it, and so on.

    Args:
        boxes: (N, 4) xyxy in any unit.
        scores: (N,); equal scores keep their order.
        iou_threshold: a box whose overlap with a better kept one is above this is dropped.
        max_keep: stop after this many.

    Returns:
        (K,) positions of the boxes that stay, best score first.
    """
    order = np.argsort(-scores, kind="stable")
    # Rows are coordinates, so that every step below reads memory in sequence.
    rest = np.ascontiguousarray(boxes[order].T)
    areas = (rest[2] - rest[0]) * (rest[3] - rest[1])
    kept: list[int] = []
    while order.size and len(kept) < max_keep:
        kept.append(int(order[0]))
        best, best_area = rest[:, :1], areas[0]
        order, rest, areas = order[1:], rest[:, 1:], areas[1:]
        width = np.minimum(best[2], rest[2]) - np.maximum(best[0], rest[0])
        height = np.minimum(best[3], rest[3]) - np.maximum(best[1], rest[1])
        overlap = np.maximum(width, 0) * np.maximum(height, 0)
        union = best_area + areas - overlap
        # Written without a division: two empty boxes (0 of 0) do not suppress each other.
        stays = overlap <= iou_threshold * union
        order, rest, areas = order[stays], rest[:, stays], areas[stays]
    return np.array(kept, np.int64)


def class_aware_nms(
    boxes: FloatArray,
    scores: FloatArray,
    class_ids: IntArray,
    iou_threshold: float,
    max_keep: int,
) -> IntArray:
    """`nms` in which only boxes of the same class suppress each other.

    Args:
        boxes: (N, 4) xyxy in any unit.
        scores: (N,).
        class_ids: (N,).
        iou_threshold: as in `nms`.
        max_keep: as in `nms`, over all classes together.

    Returns:
        As `nms`.
    """
    # Boxes of different classes are moved apart by YOLOv5's 7680 px, in float32 as there: the
    # rounding of the moved boxes decides borderline overlaps, and so decides them as in YOLOv5.
    moved = boxes + (class_ids * CLASS_OFFSET).astype(np.float32)[:, None]
    return nms(moved, scores, iou_threshold, max_keep)
