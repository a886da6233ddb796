"""Non-maximum suppression in numpy.

A box suppresses few others, so the few overlaps are listed and not the many pairs without one.

Shapes: P boxes, K kept ones, E overlaps.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from utils.structures import BoolArray, FloatArray, IntArray

SMALLEST_CHUNK = 256  # boxes; often enough of the best ones stay
LARGEST_CHUNK = 512  # bounds the memory of all pairs, should every box overlap every other
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
        boxes: (P, 4) xyxy in pixels of a network input, float32.
        scores: (P,) float32, 0 or more.
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
        boxes: (P, 4) xyxy in any unit, float32.
        scores: (P,) float32, 0 or more; equal scores keep their order.
        iou_threshold: a box whose IoU with a better kept one is above this is dropped.
        max_keep: stop after this many.

    Returns:
        (K,) indices of the kept boxes, best score first.
    """
    kept = np.zeros(0, np.int64)
    # A chunk at a time, so that the worst boxes are never looked at once enough better ones stay.
    for chunk in _chunks(best_in_order(scores, len(scores))):
        candidates = np.concatenate((kept, chunk))
        better, worse = _overlaps(boxes.take(candidates, 0), iou_threshold)
        kept = candidates[_stays(better, worse, len(candidates))]
        if len(kept) >= max_keep:
            break
    return kept[:max_keep]


def best_in_order(scores: FloatArray, count: int) -> IntArray:
    """Indices of the `count` highest of (P,) scores, best first; equal ones keep their order.

    Args:
        scores: float32, 0 or more.
        count: at most so many.
    """
    # Numbers of one sign are ordered as their bits are. The index below them makes all different,
    # so that the fastest sort keeps the order of equals.
    bits = np.ascontiguousarray(scores, np.float32).view(np.int32).astype(np.int64)
    keys = (-bits << 32) | np.arange(len(bits))
    keys.sort()
    order: IntArray = keys[:count] & 0xFFFFFFFF
    return order


def _chunks(order: IntArray) -> Iterator[IntArray]:
    """(P,) indices in parts of which each is twice as long as the one before, within limits."""
    start, size = 0, SMALLEST_CHUNK
    while start < len(order):
        yield order[start : start + size]
        start, size = start + size, min(2 * size, LARGEST_CHUNK)


def _overlaps(boxes: FloatArray, iou_threshold: float) -> tuple[IntArray, IntArray]:
    """Which of (P, 4) boxes overlap with an IoU above the threshold.

    Returns:
        (E,) and (E,) indices of the two boxes of each pair, the lower one first.
    """
    order = boxes[:, 0].argsort()
    ordered = boxes.take(order, 0)
    # With left and top negated, the smaller of two boxes' numbers are those of their intersection.
    signed = ordered * np.array((-1, -1, 1, 1), np.float32)
    # Boxes beyond what float32 can multiply overlap no other.
    with np.errstate(invalid="ignore", over="ignore"):
        one, other = _near_pairs(ordered, iou_threshold)
        shared = _sides_multiplied(np.minimum(signed.take(one, 0), signed.take(other, 0)))
        area = _sides_multiplied(signed)
        union = area.take(one) + area.take(other) - shared
        above = np.flatnonzero(shared / union > iou_threshold)
    one, other = order.take(one.take(above)), order.take(other.take(above))
    return np.minimum(one, other), np.maximum(one, other)


def _near_pairs(boxes: FloatArray, iou_threshold: float) -> tuple[IntArray, IntArray]:
    """All pairs of (P, 4) boxes in the order of their left sides that can overlap so much.

    The share of its own width that a box has in common with another is at least their IoU. So the
    other's left side lies at most the rest of that width to the right.

    Returns:
        Indices of the two boxes of each pair.
    """
    left = boxes[:, 0].astype(np.float64)
    rest = (1 - iou_threshold * (1 - ROUNDING)) * (boxes[:, 2] - boxes[:, 0])
    following = np.arange(1, len(boxes) + 1)
    counts = np.maximum(np.searchsorted(left, left + rest, side="right") - following, 0)
    one = np.repeat(following - 1, counts)
    other = np.arange(len(one)) + np.repeat(following - (counts.cumsum() - counts), counts)
    return one, other


def _sides_multiplied(signed: FloatArray) -> FloatArray:
    """(N,) areas of boxes with left and top negated; 0 where a side is negative."""
    area: FloatArray = np.maximum(signed[:, 2] + signed[:, 0], 0)
    area *= np.maximum(signed[:, 3] + signed[:, 1], 0)
    return area


def _stays(better: IntArray, worse: IntArray, count: int) -> BoolArray:
    """(count,) which boxes stay, given which overlap: a box that is dropped drops no other.

    Each round settles at least the best box of those that are left, in practice most of them.

    Args:
        better: (E,) index of the better box of an overlap, boxes in the order of their scores.
        worse: (E,) index of the other one.
        count: boxes.
    """
    stays = np.ones(count, np.bool_)
    while len(worse):
        unrivalled = np.ones(count, np.bool_)
        unrivalled[worse] = False
        drops = unrivalled[better]
        stays[worse[drops]] = False
        left = np.flatnonzero(~drops & stays[better] & stays[worse])
        better, worse = better[left], worse[left]
    return stays
