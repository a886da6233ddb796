"""The confusion matrix against a hand example and against trying every order of pairs."""

from __future__ import annotations

import numpy as np
import pytest

from utils.boxes import pairwise_iou
from utils.metrics.confusion import ConfusionMatrix, match_one_to_one
from utils.structures import Detections, Targets


def detections(*rows: tuple[list[float], float, int]) -> Detections:
    boxes, scores, class_ids = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(class_ids, np.int64),
    )


def targets(*rows: tuple[list[float], int]) -> Targets:
    boxes, class_ids = zip(*rows, strict=True) if rows else ((), ())
    return Targets(np.array(boxes, np.float32).reshape(-1, 4), np.array(class_ids, np.int64))


LEFT, RIGHT, FAR = [0, 0, 10, 10], [20, 0, 30, 10], [80, 80, 90, 90]
LEFT_SHIFTED = [0, 2, 10, 12]  # IoU 2/3 with LEFT


def test_hand_example() -> None:
    counts = ConfusionMatrix(num_classes=2)
    counts.update(
        detections(
            (LEFT_SHIFTED, 0.9, 0),  # overlaps LEFT, but less than the next one: a false alarm
            (LEFT, 0.8, 1),  # takes LEFT and calls it class 1
            (RIGHT, 0.7, 1),  # right
            (FAR, 0.24, 1),  # below the score threshold
        ),
        targets((LEFT, 0), (RIGHT, 1), (FAR, 1)),
    )
    assert counts.matrix.tolist() == [
        # true: class 0, class 1, background
        [0, 0, 1],  # called class 0
        [1, 1, 0],  # called class 1
        [0, 1, 0],  # missed
    ]


def test_images_add_up() -> None:
    counts = ConfusionMatrix(num_classes=1)
    for _ in range(3):
        counts.update(detections((LEFT, 0.9, 0)), targets((LEFT, 0), (RIGHT, 0)))
    assert counts.matrix.tolist() == [[3, 0], [3, 0]]


@pytest.mark.parametrize(
    ("found", "true", "expected"),
    [
        (detections(), targets(), [[0, 0], [0, 0]]),  # nothing at all
        (detections((LEFT, 0.9, 0)), targets(), [[0, 1], [0, 0]]),  # only false alarms
        (detections(), targets((LEFT, 0), (LEFT, 0)), [[0, 0], [2, 0]]),  # all missed
        (Detections.empty(), Targets.empty(), [[0, 0], [0, 0]]),  # the types' own empties
    ],
)
def test_empty_inputs(found, true, expected) -> None:
    counts = ConfusionMatrix(num_classes=1)
    counts.update(found, true)
    assert counts.matrix.tolist() == expected


def test_an_overlap_at_the_threshold_is_no_match() -> None:
    iou = np.array([[0.5]], np.float32)
    assert len(match_one_to_one(iou, 0.5)[0]) == 0
    assert len(match_one_to_one(iou, 0.49)[0]) == 1


def test_equal_overlaps_go_to_the_better_score() -> None:
    found, true = match_one_to_one(np.full((2, 1), 0.8, np.float32), 0.45)
    assert (found.tolist(), true.tolist()) == ([0], [0])


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_matching_nothing(shape) -> None:
    found, true = match_one_to_one(np.zeros(shape, np.float32), 0.45)
    assert len(found) == len(true) == 0


def strongest_pair_first(iou: np.ndarray, threshold: float) -> set[tuple[int, int]]:
    """Look for the highest overlap left, again and again."""
    iou, pairs = iou.copy(), set()
    while iou.size and iou.max() > threshold:
        row, column = np.unravel_index(iou.argmax(), iou.shape)
        pairs.add((int(row), int(column)))
        iou[row], iou[:, column] = -1, -1
    return pairs


@pytest.mark.parametrize("seed", range(20))
def test_matching_agrees_with_the_slow_way(seed: int) -> None:
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 40, (2, 12, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(10, 30, (2, 12, 2))], axis=2)
    iou = pairwise_iou(boxes[0].astype(np.float32), boxes[1, : seed % 13].astype(np.float32))
    found, true = match_one_to_one(iou, 0.2)
    pairs = set(zip(found.tolist(), true.tolist(), strict=True))
    assert pairs == strongest_pair_first(iou, 0.2)
    assert len(pairs) == len(found)


@pytest.mark.parametrize("seed", range(5))
def test_columns_count_the_truth_and_rows_the_detections(seed: int) -> None:
    generator = np.random.default_rng(seed)

    def boxes(count: int) -> np.ndarray:
        corners = generator.uniform(0, 40, (count, 2))
        return np.concatenate([corners, corners + 15], axis=1).astype(np.float32)

    found = Detections(
        boxes(30), generator.uniform(0, 1, 30).astype(np.float32), generator.integers(0, 4, 30)
    )
    true = Targets(boxes(20), generator.integers(0, 4, 20))
    counts = ConfusionMatrix(num_classes=4)
    counts.update(found, true)
    assert (
        counts.matrix[:, :-1].sum(0).tolist() == np.bincount(true.class_ids, minlength=4).tolist()
    )
    kept = found.class_ids[found.scores >= 0.25]
    assert counts.matrix[:-1].sum(1).tolist() == np.bincount(kept, minlength=4).tolist()
    assert counts.matrix[-1, -1] == 0
