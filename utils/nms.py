"""Non-maximum suppression in numpy.

A box suppresses few others, so the few overlaps are listed and not the many pairs without one.

Shapes: P boxes, K kept ones, E overlaps.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from utils.boxes import box_area
from utils.structures import BoolArray, FloatArray, IntArray

NMS_CHUNK = 256  # boxes; small enough for the cache, large enough for few calls
SORTED_FIRST = 4 * NMS_CHUNK  # of all boxes; often enough of them stay
ROUNDING = 1e-5  # relative, more than that of an IoU in float32
CLASS_OFFSET = 7680.0  # px between the boxes of two classes, wider than any network input


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
    kept = np.zeros(0, np.int64)
    # A chunk at a time, so that the worst boxes are never looked at once enough better ones stay.
    for chunk in _chunks_in_order(scores):
        if len(kept):
            _, worse = _overlaps(boxes[kept], boxes[chunk], iou_threshold)
            chunk = np.delete(chunk, worse)
        stays = _stays(*_overlaps(boxes[chunk], boxes[chunk], iou_threshold), len(chunk))
        kept = np.concatenate((kept, chunk[stays]))
        if len(kept) >= max_keep:
            break
    return kept[:max_keep]


def best_in_order(scores: FloatArray, count: int) -> IntArray:
    """Indices of the `count` highest of (P,) scores, best first; equal ones keep their order."""
    among = np.arange(len(scores))
    if len(scores) > count:
        bound = np.partition(scores, len(scores) - count)[len(scores) - count]
        among = np.flatnonzero(scores >= bound)  # more than `count` where scores equal the bound
    order: IntArray = among[np.argsort(-scores[among], kind="stable")][:count]
    return order


def _chunks_in_order(scores: FloatArray) -> Iterator[IntArray]:
    """Indices of (P,) scores, best first, in chunks; the worse ones are sorted once asked for."""
    first = best_in_order(scores, SORTED_FIRST)
    rest = np.zeros(0, np.int64)
    for start in range(0, len(scores), NMS_CHUNK):
        if start == len(first):
            left = np.ones(len(scores), np.bool_)
            left[first] = False
            rest = np.flatnonzero(left)
            rest = rest[np.argsort(-scores[rest], kind="stable")]
        in_order, begin = (first, start) if start < len(first) else (rest, start - len(first))
        yield in_order[begin : begin + NMS_CHUNK]


def _overlaps(
    first: FloatArray, second: FloatArray, iou_threshold: float
) -> tuple[IntArray, IntArray]:
    """Which of (M, 4) boxes overlap which of (N, 4) boxes with an IoU above the threshold.

    Returns:
        (E,) and (E,) their indices.
    """
    left_1, top_1, right_1, bottom_1 = np.ascontiguousarray(first.T)
    left_2, top_2, right_2, bottom_2 = np.ascontiguousarray(second.T)
    with np.errstate(invalid="ignore"):  # boxes beyond what float32 can multiply: they stay
        # The share of its own width, or height, that a box has in common with another is at least
        # their IoU. For most pairs it is not, all of different classes among them.
        least = np.float32(iou_threshold * (1 - ROUNDING))
        width = np.minimum(right_1[:, None], right_2)
        width -= np.maximum(left_1[:, None], left_2)
        pairs = np.flatnonzero(width > (least * (right_1 - left_1))[:, None])
        one, other = np.divmod(pairs, len(second))
        height = np.minimum(bottom_1.take(one), bottom_2.take(other))
        height -= np.maximum(top_1.take(one), top_2.take(other))
        near = np.flatnonzero(height > (least * (bottom_1 - top_1)).take(one))
        one, other, height = one.take(near), other.take(near), height.take(near)
        shared = np.maximum(width.take(pairs.take(near)), 0) * np.maximum(height, 0)
        union = box_area(first).take(one) + box_area(second).take(other) - shared
        above = np.flatnonzero(shared / union > iou_threshold)
    return one.take(above), other.take(above)


def _stays(better: IntArray, worse: IntArray, count: int) -> BoolArray:
    """(count,) which boxes of a chunk stay, best first, given which overlap.

    A box stays where none that stays suppresses it. Each round settles at least the first box
    that is not settled yet, so nothing changes any more after at most `count` rounds; in practice
    few.

    Args:
        better: (E,) index in the chunk.
        worse: (E,) index in the chunk; pairs in which it is not the worse one do not count.
        count: boxes in the chunk.
    """
    in_order = better < worse
    better, worse = better[in_order], worse[in_order]
    stays = np.ones(count, np.bool_)
    while True:
        now = np.ones(count, np.bool_)
        now[worse[stays[better]]] = False
        if (now == stays).all():
            return stays
        stays = now
