from __future__ import annotations

import numpy as np
import pytest

from utils.nms import class_aware_nms, nms
from utils.postprocess import MAX_CANDIDATES, PostprocessConfig, postprocess

# cx, cy, w, h, objectness, two class probabilities
CAT = [10, 10, 8, 8, 0.5, 1.0, 0.25]
CAT_TWIN = [10, 10, 8, 7, 0.75, 0.5, 0.25]
DOG = [10, 10, 8, 8, 1.0, 0.25, 0.75]
FAR = [40, 40, 8, 8, 0.5, 0.0, 1.0]

CASES = [
    # rows, settings, (class id, score) of each detection
    ([], {}, []),  # no rows at all
    ([CAT], {}, [(0, 0.5)]),  # best class, objectness times probability
    ([CAT], {"score_threshold": 0.5}, []),  # objectness must be above the threshold, not at it
    ([CAT_TWIN], {"score_threshold": 0.375}, []),  # so must the score
    ([CAT, CAT_TWIN], {}, [(0, 0.5)]),  # same class, same position: the better one
    ([CAT, DOG], {}, [(1, 0.75), (0, 0.5)]),  # other class: both, best first
    ([CAT, DOG], {"class_agnostic": True}, [(1, 0.75)]),  # unless classes do not matter
    ([CAT], {"multi_label": True, "score_threshold": 0.1}, [(0, 0.5), (1, 0.125)]),  # every class
    ([CAT], {"multi_label": True, "score_threshold": 0.125}, [(0, 0.5)]),  # strictly above
    ([CAT, DOG, FAR], {"max_detections": 2}, [(1, 0.75), (0, 0.5)]),  # the best two
    ([CAT, DOG, FAR], {"classes": (0,)}, [(0, 0.5)]),  # wanted classes only
    ([CAT], {"classes": (1,)}, []),  # filtering comes after the choice of the best class
]


@pytest.mark.parametrize(("rows", "settings", "expected"), CASES)
def test_cases(rows, settings, expected):
    decoded = np.array(rows, np.float32).reshape(-1, 7)
    found = postprocess(decoded, PostprocessConfig(**settings))
    assert list(zip(found.class_ids.tolist(), found.scores.tolist(), strict=True)) == expected
    assert found.boxes.shape == (len(expected), 4)
    assert (found.boxes.dtype, found.scores.dtype, found.class_ids.dtype) == (
        np.float32,
        np.float32,
        np.int64,
    )


def test_boxes_are_corners_in_input_pixels():
    found = postprocess(np.array([CAT], np.float32), PostprocessConfig())
    assert found.boxes.tolist() == [[6, 6, 14, 14]]


def test_one_class():
    decoded = np.array([[10, 10, 4, 4, 0.5, 0.75], [30, 30, 4, 4, 0.5, 0.25]], np.float32)
    for multi_label in (False, True):
        found = postprocess(decoded, PostprocessConfig(multi_label=multi_label))
        assert found.scores.tolist() == [0.375] and found.class_ids.tolist() == [0]


def test_the_best_candidates_enter_suppression():
    rng = np.random.default_rng(0)
    count = MAX_CANDIDATES + 500
    decoded = np.zeros((count, 6), np.float32)
    decoded[:, :2] = rng.uniform(0, 640, (count, 2))
    decoded[:, 2:4] = 0.01
    decoded[:, 4] = rng.permutation(np.linspace(0.3, 1, count))
    decoded[:, 5] = 1
    found = postprocess(decoded, PostprocessConfig(max_detections=10))
    assert found.scores.tolist() == np.sort(decoded[:, 4])[::-1][:10].tolist()


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
def test_nms_equals_the_definition(seed, iou_threshold):
    rng = np.random.default_rng(seed)
    boxes, scores = random_boxes(rng, 80), rng.permutation(80).astype(np.float32)
    expected = reference_nms(boxes.astype(float), scores, iou_threshold)
    assert nms(boxes, scores, iou_threshold, 100).tolist() == expected
    assert nms(boxes, scores, iou_threshold, 7).tolist() == expected[:7]


NMS_CASES = [
    # boxes, scores, threshold, kept
    ([], [], 0.5, []),  # nothing in, nothing out
    ([[0, 0, 4, 4]], [0.3], 0.5, [0]),  # one box stays
    ([[0, 0, 4, 4], [0, 0, 4, 4]], [0.3, 0.9], 0.5, [1]),  # of equal boxes the better one stays
    ([[0, 0, 4, 4], [0, 0, 4, 4]], [0.3, 0.3], 0.5, [0]),  # equal scores: the first
    ([[0, 0, 2, 2], [0, 0, 2, 4]], [0.9, 0.8], 0.5, [0, 1]),  # IoU equal to the threshold stays
    ([[0, 0, 2, 2], [0, 0, 2, 4]], [0.9, 0.8], 0.49, [0]),  # just above it goes
    ([[3, 3, 3, 3], [3, 3, 3, 3]], [0.9, 0.8], 0.5, [0, 1]),  # empty boxes have no overlap
    ([[0, 0, 2, 2], [2, 0, 4, 2]], [0.9, 0.8], 0.0, [0, 1]),  # touching is not overlapping
]


@pytest.mark.parametrize(("boxes", "scores", "iou_threshold", "kept"), NMS_CASES)
def test_nms_cases(boxes, scores, iou_threshold, kept):
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
