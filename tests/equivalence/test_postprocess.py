"""The numpy and the torch postprocessing are held to one slow reference, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.runtimes.torch_predictor import postprocess_batch, postprocess_on_device
from utils.boxes import pairwise_iou
from utils.nms import CLASS_OFFSET, LARGEST_CHUNK, nms
from utils.postprocess import MAX_CANDIDATES, VAL_POSTPROCESS, PostprocessConfig, postprocess

F = np.float32


def reference(decoded, config):
    """The rules of utils/postprocess.py, a pair at a time: (box, score, class id) of each."""
    threshold = F(config.score_threshold)
    pairs = []
    for cx, cy, w, h, objectness, *probabilities in decoded:
        if not objectness > threshold:
            continue
        scores = [probability * objectness for probability in probabilities]
        best = [max(range(len(scores)), key=lambda i: (scores[i], -i))]
        for class_id in range(len(scores)) if config.multi_label else best:
            wanted = config.classes is None or class_id in config.classes
            if wanted and scores[class_id] > threshold:
                box = (cx - w / F(2), cy - h / F(2), cx + w / F(2), cy + h / F(2))
                pairs.append((box, scores[class_id], class_id))
    pairs.sort(key=lambda pair: -pair[1])  # stable
    kept = []
    for pair in pairs[:MAX_CANDIDATES]:
        if len(kept) == config.max_detections:
            break
        if not any(suppresses(better, pair, config) for better in kept):
            kept.append(pair)
    return kept


def suppresses(better, pair, config):
    """Whether the IoU of two pairs' boxes, moved apart by their classes, is above the threshold."""
    offsets = [F(0 if config.class_agnostic else class_id * CLASS_OFFSET)
               for _, _, class_id in (better, pair)]  # fmt: skip
    a, b = ([edge + offset for edge in box] for (box, _, _), offset in
            zip((better, pair), offsets, strict=True))  # fmt: skip
    width = max(min(a[2], b[2]) - max(a[0], b[0]), F(0))
    height = max(min(a[3], b[3]) - max(a[1], b[1]), F(0))
    overlap = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    return union > 0 and overlap / union > F(config.iou_threshold)


def assert_both_follow(decoded, config):
    expected = reference(decoded, config)
    boxes = np.array([box for box, _, _ in expected], F).reshape(-1, 4)
    on_device = postprocess_on_device(torch.from_numpy(decoded), config)
    in_batch = postprocess_batch(torch.from_numpy(decoded)[None], config)[0]
    for found in (postprocess(decoded, config), in_batch, on_device):
        assert found.class_ids.tolist() == [class_id for _, _, class_id in expected]
        assert found.scores.tolist() == [float(score) for _, score, _ in expected]
        assert np.array_equal(found.boxes, boxes)
        assert found.boxes.dtype == found.scores.dtype == np.float32
        assert found.class_ids.dtype == np.int64
    return len(expected)


def predictions(seed, count, num_classes, *, whole):
    """Random rows; `whole`: pixels and shares from few values, so that scores and IoUs tie."""
    rng = np.random.default_rng(seed)
    decoded = rng.random((count, 5 + num_classes)).astype(F)
    decoded[:, :4] *= 64
    if whole:
        decoded[:, :2] = np.round(decoded[:, :2] / 4) * 4
        decoded[:, 2:4] = rng.choice([2, 4, 8, 16, 0], (count, 2))
        decoded[:, 4:] = rng.choice([0, 0.25, 0.5, 0.6, 0.75, 1], (count, 1 + num_classes))
    return decoded


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(0, 60),
    num_classes=st.integers(1, 4),
    whole=st.booleans(),
    score_threshold=st.sampled_from([0.0, 0.001, 0.1, 0.25, 0.3, 0.36, 0.5, 1.0]),
    iou_threshold=st.sampled_from([0.0, 0.2, 1 / 3, 0.45, 0.5, 0.6, 0.75, 1.0]),
    max_detections=st.integers(1, 40),
    multi_label=st.booleans(),
    class_agnostic=st.booleans(),
    classes=st.sampled_from([None, (), (0,), (1, 3), (7,)]),
)
def test_random_predictions(seed, count, num_classes, whole, **rules):
    decoded = predictions(seed, count, num_classes, whole=whole)
    assert_both_follow(decoded, PostprocessConfig(**rules))


ON_THE_EDGE = [
    # IoU as a fraction: the overlap of two boxes of height 1, on a line
    (1, 2),
    (1, 3),
    (3, 5),  # 0.6: as float32 it is above the double 0.6
    (9, 20),  # 0.45
    (2, 3),
    (7, 10),
]


@pytest.mark.parametrize(("overlap", "union"), ON_THE_EDGE)
def test_an_iou_equal_to_the_threshold_stays(overlap, union):
    decoded = np.array([
        [union / 2, 10, union, 2, 1, 0.9],
        [overlap / 2, 10, overlap, 2, 1, 0.8],
    ], F)  # fmt: skip
    for shift, expected in ((-1e-6, 1), (0, 2), (1e-6, 2)):
        config = PostprocessConfig(0.25, overlap / union + shift)
        assert assert_both_follow(decoded, config) == expected


@pytest.mark.parametrize("threshold", [0.1, 0.25, 0.3, 0.6, 0.7])
def test_a_score_equal_to_the_threshold_goes(threshold):
    """0.1 in float32 is above 0.1 in float64: the threshold is rounded to float32, too."""
    above = np.nextafter(F(threshold), F(1))
    decoded = np.array([[9, 9, 4, 4, 1, threshold], [30, 9, 4, 4, 1, above]], F)
    assert assert_both_follow(decoded, PostprocessConfig(threshold)) == 1
    decoded[:, 4:] = decoded[:, :3:-1]  # the same of objectness
    assert assert_both_follow(decoded, PostprocessConfig(threshold)) == 1


def test_equal_scores_keep_their_order():
    decoded = np.tile(np.array([[0, 9, 4, 4, 0.5, 0.5, 0.5]], F), (6, 1))
    decoded[:, 0] = [50, 10, 30, 20, 60, 40]
    for multi_label in (False, True):
        config = PostprocessConfig(0.1, multi_label=multi_label)
        assert assert_both_follow(decoded, config) == (12 if multi_label else 6)
    assert postprocess(decoded, PostprocessConfig(0.1)).class_ids.tolist() == [0] * 6


def test_more_candidates_than_enter_suppression():
    """Beyond MAX_CANDIDATES pairs the worst are dropped: even one that nothing overlaps."""
    count = MAX_CANDIDATES // 2 + 200
    rng = np.random.default_rng(0)
    decoded = np.zeros((count, 7), F)
    decoded[:, :4] = (100, 100, 50, 50)
    decoded[:, 4] = 1
    decoded[:, 5:] = rng.permutation(np.linspace(0.5, 1, count))[:, None]
    decoded[-1] = (400, 400, 50, 50, 1, 0.3, 0.3)
    config = PostprocessConfig(0.1, 0.5, multi_label=True)
    assert assert_both_follow(decoded, config) == 2  # one of each class
    few = np.concatenate([decoded[:1000], decoded[-1:]])
    assert assert_both_follow(few, config) == 4


def test_how_ap_is_measured():
    decoded = predictions(5, 400, 8, whole=False)
    assert assert_both_follow(decoded, VAL_POSTPROCESS) == VAL_POSTPROCESS.max_detections


@pytest.mark.parametrize("seed", range(2))
def test_boxes_of_several_chunks_suppress_each_other(seed):
    """Crowded, so that boxes of each chunk are suppressed by kept ones of all chunks before."""
    rng = np.random.default_rng(seed)
    decoded = predictions(seed, 3 * LARGEST_CHUNK, 1, whole=bool(seed % 2))
    decoded[:, :2] *= 4
    decoded[:, 2:4] = rng.uniform(8, 30, (len(decoded), 2))
    config = PostprocessConfig(0.0, 0.3, max_detections=len(decoded))
    assert LARGEST_CHUNK // 2 < assert_both_follow(decoded, config) < 2 * LARGEST_CHUNK


def test_a_chain_of_boxes_each_suppressed_by_the_one_before():
    """Every second one stays: a box that is suppressed suppresses nothing."""
    decoded = np.zeros((LARGEST_CHUNK + 20, 6), F)
    decoded[:, 0] = 4 * np.arange(len(decoded))
    decoded[:, 1:4] = (10, 10, 10)
    decoded[:, 4] = np.linspace(1, 0.5, len(decoded))
    decoded[:, 5] = 1
    config = PostprocessConfig(0.1, 0.4, max_detections=len(decoded))
    assert assert_both_follow(decoded, config) == len(decoded) // 2


@pytest.mark.parametrize("max_keep", [10, LARGEST_CHUNK // 2, 10 * LARGEST_CHUNK])
def test_equal_scores_across_chunks(max_keep):
    """With scores of few values, so that equal ones lie on both sides of every border."""
    rng = np.random.default_rng(max_keep)
    corners = rng.integers(0, 400, (3 * LARGEST_CHUNK, 2)).astype(F)
    boxes = np.concatenate((corners, corners + rng.integers(3, 12, corners.shape)), 1).astype(F)
    scores = rng.choice([0.25, 0.5, 0.6, 0.75], len(boxes)).astype(F)
    left, kept = np.argsort(-scores, kind="stable"), []
    while len(left) and len(kept) < max_keep:
        kept.append(int(left[0]))
        left = left[pairwise_iou(boxes[left[:1]], boxes[left])[0] <= F(0.3)]
    assert nms(boxes, scores, 0.3, max_keep).tolist() == kept
