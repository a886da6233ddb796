"""The confusion matrix against a hand example and against trying every order of pairs."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.utils.metrics.coco_cases import record, targets
from utils.boxes import pairwise_iou
from utils.metrics.matches import match_images, match_one_to_one
from utils.structures import Detections, IntArray, Targets


def detections(*rows: tuple[list[float], float, int]) -> Detections:
    boxes, scores, class_ids = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(class_ids, np.int64),
    )


def objects(*rows: tuple[list[float], int]) -> Targets:
    boxes, class_ids = zip(*rows, strict=True) if rows else ((), ())
    return targets(boxes, class_ids)


def confusion(num_classes: int, *images: tuple[Detections, Targets]) -> IntArray:
    records = [record(k, true.boxes, true.class_ids) for k, (_, true) in enumerate(images, 1)]
    found = {k: each for k, (each, _) in enumerate(images, 1)}
    return match_images(records, found, num_classes).confusion


LEFT, RIGHT, FAR = [0, 0, 10, 10], [20, 0, 30, 10], [80, 80, 90, 90]
LEFT_SHIFTED = [0, 2, 10, 12]  # IoU 2/3 with LEFT


def test_hand_example() -> None:
    image = (
        detections(
            (LEFT_SHIFTED, 0.9, 0),  # overlaps LEFT, but less than the next one: a false alarm
            (LEFT, 0.8, 1),  # takes LEFT and calls it class 1
            (RIGHT, 0.7, 1),  # right
            (FAR, 0.24, 1),  # below the score threshold
        ),
        objects((LEFT, 0), (RIGHT, 1), (FAR, 1)),
    )
    assert confusion(2, image).tolist() == [
        # true: class 0, class 1, background
        [0, 0, 1],  # called class 0
        [1, 1, 0],  # called class 1
        [0, 1, 0],  # missed
    ]


def test_images_add_up() -> None:
    image = detections((LEFT, 0.9, 0)), objects((LEFT, 0), (RIGHT, 0))
    assert confusion(1, image, image, image).tolist() == [[3, 0], [3, 0]]


def test_detections_of_one_image_find_nothing_in_another() -> None:
    images = (detections((LEFT, 0.9, 0)), objects()), (detections(), objects((LEFT, 0)))
    assert confusion(1, *images).tolist() == [[0, 1], [1, 0]]


def test_crowd_regions_are_no_objects() -> None:
    crowded = record(1, [LEFT], [0], crowd=objects((FAR, 0)))
    found = {1: detections((LEFT, 0.9, 0), (FAR, 0.8, 0))}
    assert match_images([crowded], found, 1).confusion.tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize(
    ("found", "true", "expected"),
    [
        (detections(), objects(), [[0, 0], [0, 0]]),  # nothing at all
        (detections((LEFT, 0.9, 0)), objects(), [[0, 1], [0, 0]]),  # only false alarms
        (detections(), objects((LEFT, 0), (LEFT, 0)), [[0, 0], [2, 0]]),  # all missed
        (Detections.empty(), Targets.empty(), [[0, 0], [0, 0]]),  # the types' own empties
    ],
)
def test_empty_inputs(found, true, expected) -> None:
    assert confusion(1, (found, true)).tolist() == expected


def test_an_overlap_at_the_threshold_is_no_match() -> None:
    """IoU 0.45 exactly: 9 of 20 square pixels."""
    wide, narrow = [0, 0, 20, 1], [0, 0, 9, 1]
    assert confusion(1, (detections((wide, 0.9, 0)), objects((narrow, 0)))).trace() == 0
    assert confusion(1, (detections((wide, 0.9, 0)), objects(([0, 0, 9.5, 1], 0)))).trace() == 1


def test_equal_overlaps_go_to_the_better_score() -> None:
    image = detections((LEFT, 0.9, 1), (LEFT, 0.8, 0)), objects((LEFT, 0))
    assert confusion(2, image).tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0]]


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
    rows, columns = np.nonzero(iou > 0.2)
    found, true = match_one_to_one(rows, columns, iou[rows, columns])
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
    matrix = confusion(4, (found, true))
    assert matrix[:, :-1].sum(0).tolist() == np.bincount(true.class_ids, minlength=4).tolist()
    kept = found.class_ids[found.scores >= 0.25]
    assert matrix[:-1].sum(1).tolist() == np.bincount(kept, minlength=4).tolist()
    assert matrix[-1, -1] == 0
