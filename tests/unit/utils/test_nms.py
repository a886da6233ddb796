from __future__ import annotations

import numpy as np
import pytest

from utils.nms import class_aware_nms, nms


def reference_nms(boxes, scores, iou_threshold):
    """The definition, one pair at a time."""
    order = sorted(range(len(boxes)), key=lambda i: -scores[i])
    kept: list[int] = []
    for i in order:
        if all(reference_iou(boxes[i], boxes[k]) <= iou_threshold for k in kept):
            kept.append(i)
    return kept


def reference_iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    return overlap / union


def random_boxes(rng, count):
    corner = rng.uniform(0, 60, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(5, 40, (count, 2))], 1).astype(np.float32)


@pytest.mark.parametrize("iou_threshold", [0.0, 0.3, 0.45, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_definition(seed, iou_threshold):
    rng = np.random.default_rng(seed)
    boxes, scores = random_boxes(rng, 80), rng.permutation(80).astype(np.float32)
    expected = reference_nms(boxes.astype(float), scores, iou_threshold)
    assert nms(boxes, scores, iou_threshold, 100).tolist() == expected
    assert nms(boxes, scores, iou_threshold, 7).tolist() == expected[:7]


CASES = [
    # boxes, scores, threshold, kept
    ([], [], 0.5, []),  # nothing in, nothing out
    ([[0, 0, 4, 4]], [0.3], 0.5, [0]),  # one box stays
    ([[0, 0, 4, 4], [0, 0, 4, 4]], [0.3, 0.9], 0.5, [1]),  # of twins the better one stays
    ([[0, 0, 4, 4], [0, 0, 4, 4]], [0.3, 0.3], 0.5, [0]),  # equal scores: the first
    ([[0, 0, 2, 2], [0, 0, 2, 4]], [0.9, 0.8], 0.5, [0, 1]),  # IoU equal to the threshold stays
    ([[0, 0, 2, 2], [0, 0, 2, 4]], [0.9, 0.8], 0.49, [0]),  # just above it goes
    ([[3, 3, 3, 3], [3, 3, 3, 3]], [0.9, 0.8], 0.5, [0, 1]),  # empty boxes have no overlap
    ([[0, 0, 2, 2], [2, 0, 4, 2]], [0.9, 0.8], 0.0, [0, 1]),  # touching is not overlapping
]


@pytest.mark.parametrize(("boxes", "scores", "iou_threshold", "kept"), CASES)
def test_cases(boxes, scores, iou_threshold, kept):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    assert nms(boxes, np.array(scores, np.float32), iou_threshold, 10).tolist() == kept


@pytest.mark.parametrize("seed", range(3))
def test_classes_do_not_suppress_each_other(seed):
    rng = np.random.default_rng(seed)
    boxes, scores = random_boxes(rng, 60), rng.permutation(60).astype(np.float32)
    class_ids = rng.integers(0, 4, 60)
    expected = sorted(
        (
            int(members[i])
            for class_id in range(4)
            for members in [np.flatnonzero(class_ids == class_id)]
            for i in reference_nms(boxes[members].astype(float), scores[members], 0.4)
        ),
        key=lambda i: -scores[i],
    )
    assert class_aware_nms(boxes, scores, class_ids, 0.4, 100).tolist() == expected


def test_no_boxes_of_any_class():
    empty = np.zeros(0, np.float32)
    kept = class_aware_nms(np.zeros((0, 4), np.float32), empty, np.zeros(0, np.int64), 0.5, 9)
    assert kept.shape == (0,) and kept.dtype == np.int64
