"""Every case is one count of the confusion matrix, and of the kind that its boxes say."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tests.unit.utils.metrics.coco_cases import NAMES, detections, random_case, record, targets
from utils.gallery.cases import KIND_NAMES, KINDS, Case, find_cases
from utils.gallery.selection import select_worst
from utils.metrics.matches import match_images
from utils.structures import Detections

LEFT, RIGHT, FAR = [0, 0, 10, 10], [50, 0, 60, 10], [80, 80, 90, 90]
LEFT_NEAR = [0, 2, 10, 12]  # IoU 2/3 with LEFT
LEFT_TOUCHED = [0, 6, 10, 16]  # IoU 1/4 with LEFT
LEFT_GRAZED = [0, 9, 10, 19]  # IoU 1/19 with LEFT
BACKGROUND = 2  # of two classes


def mixed_case(seed: int):
    """A random case in which every third detection is called another class."""
    records, found = random_case(seed)
    for image_id, one in found.items():
        class_ids = one.class_ids.copy()
        class_ids[::3] = (class_ids[::3] + 1) % len(NAMES)
        found[image_id] = replace(one, class_ids=class_ids)
    return records, found


def matrix_of(cases, num_classes: int) -> np.ndarray:
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    for case in cases:
        matrix[case.row, case.column] += 1
    return matrix


@pytest.mark.parametrize("seed", range(30))
def test_cells_are_those_of_the_matrix(seed: int) -> None:
    records, found = mixed_case(seed)
    cases = list(find_cases(records, found, len(NAMES)))
    expected = match_images(records, found, len(NAMES)).confusion
    np.testing.assert_array_equal(matrix_of(cases, len(NAMES)), expected)
    assert {case.kind for case in cases} <= set(KIND_NAMES)


def test_random_cases_are_of_every_kind() -> None:
    kinds = Counter(
        case.kind for seed in range(30) for case in find_cases(*mixed_case(seed), len(NAMES))
    )
    assert set(kinds) == set(KIND_NAMES)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_images_is_free(seed: int) -> None:
    records, found = mixed_case(seed)
    cases = list(find_cases(records[::-1], found, len(NAMES)))
    expected = match_images(records, found, len(NAMES)).confusion
    np.testing.assert_array_equal(matrix_of(cases, len(NAMES)), expected)
    for case in cases:
        boxes = records[::-1][case.image].targets.boxes.tolist()
        if case.column < len(NAMES):
            assert case.labelled.tolist() in boxes


def test_detections_of_unknown_classes_are_dropped_as_in_the_matrix() -> None:
    records = [record(1, [LEFT], [0])]
    found = {1: detections([RIGHT, LEFT], [0.9, 0.8], [7, 0])}
    (case,) = find_cases(records, found, 2)
    assert (case.kind, case.found.tolist()) == ("correct", LEFT)


@pytest.mark.parametrize(
    ("rows", "labels", "expected"),
    [
        ([], [], []),  # nothing at all
        ([(LEFT, 0.9, 0)], [(LEFT, 0)], [("correct", 0, 0)]),
        ([(LEFT, 0.9, 1)], [(LEFT, 0)], [("confusion", 1, 0)]),
        ([(LEFT, 0.9, 0)], [], [("background", 0, 2)]),
        ([], [(LEFT, 0)], [("missed", 2, 0)]),
        # a second detection of the object, of its class or another one
        ([(LEFT, 0.9, 0), (LEFT_NEAR, 0.8, 0)], [(LEFT, 0)],
         [("correct", 0, 0), ("duplicate", 0, 2)]),
        ([(LEFT, 0.9, 0), (LEFT_NEAR, 0.8, 1)], [(LEFT, 0)],
         [("correct", 0, 0), ("duplicate", 1, 2)]),
        # beside the object: of its class, of another one, and too far away
        ([(LEFT_TOUCHED, 0.9, 0)], [(LEFT, 0)], [("poor_location", 0, 2), ("poor_box", 2, 0)]),
        ([(LEFT_TOUCHED, 0.9, 1)], [(LEFT, 0)], [("background", 1, 2), ("missed", 2, 0)]),
        ([(LEFT_GRAZED, 0.9, 0)], [(LEFT, 0)], [("background", 0, 2), ("missed", 2, 0)]),
        # found, but with a low score: as its class, and as another one
        ([(LEFT, 0.2, 0)], [(LEFT, 0)], [("low_score", 2, 0)]),
        ([(LEFT, 0.2, 1)], [(LEFT, 0)], [("missed", 2, 0)]),
        ([(LEFT_TOUCHED, 0.2, 0)], [(LEFT, 0)], [("missed", 2, 0)]),
        # one detection for two objects
        ([(LEFT, 0.9, 0)], [(LEFT, 0), (LEFT_NEAR, 0)], [("correct", 0, 0), ("missed", 2, 0)]),
    ],
)  # fmt: skip
def test_kinds(rows, labels, expected) -> None:
    records = [record(1, [box for box, _ in labels], [id_ for _, id_ in labels])]
    found = {1: detections(*([row[k] for row in rows] for k in range(3)))}
    cases = find_cases(records, found, 2)
    assert sorted((case.kind, case.row, case.column) for case in cases) == sorted(expected)


def test_crowd_regions_are_neither_missed_nor_blamed() -> None:
    crowd = targets([LEFT, FAR], [0, 1])
    found = {1: detections([LEFT_NEAR, LEFT_TOUCHED, FAR], [0.9, 0.8, 0.7], [0, 0, 0])}
    cases = list(find_cases([record(1, crowd=crowd)], found, 2))
    # 0.8 inside, 0.4 inside, and wholly inside a region of another class
    assert [case.kind for case in cases] == ["ignored", "background", "background"]
    assert all((case.row, case.column) == (0, BACKGROUND) for case in cases)
    assert cases[0].iou == pytest.approx(0.8)


def test_what_a_case_tells() -> None:
    found = {1: detections([LEFT_NEAR, LEFT], [0.5, 0.75], [1, 0])}
    right, duplicate = find_cases([record(1, [LEFT], [0])], found, 2)
    assert (right.score, right.iou, right.other_class) == (0.75, 1.0, None)
    assert (duplicate.score, duplicate.other_class) == (0.5, 0)
    assert duplicate.iou == pytest.approx(2 / 3)
    assert duplicate.found.tolist() == LEFT_NEAR and duplicate.labelled.tolist() == LEFT
    assert duplicate.size_wh == (10, 10)


def test_each_kind_has_a_section_and_a_definition() -> None:
    assert len(set(KIND_NAMES)) == len(KINDS)
    assert {kind.section for kind in KINDS} == {"false", "missed", "confused", "ignored", "correct"}
    assert all(kind.definition.endswith(".") for kind in KINDS)


@pytest.mark.parametrize("per_group", [1, 2, 1000])
def test_the_worst_of_each_group_are_kept(per_group: int) -> None:
    cases = [
        case
        for seed in range(10)
        for case in find_cases(*mixed_case(seed), len(NAMES))
    ]  # fmt: skip
    selection = select_worst(iter(cases), per_group)
    groups: dict[tuple, list[Case]] = {}
    for case in cases:
        groups.setdefault((case.kind, case.row, case.column), []).append(case)
    assert selection.counts == {key: len(group) for key, group in groups.items()}
    for key, group in groups.items():
        kept = [c for c in selection.cases if (c.kind, c.row, c.column) == key]
        ranks = sorted(case.rank() for case in group)[:per_group]
        assert sorted(case.rank() for case in kept) == ranks
    images = [case.image for case in selection.cases]
    assert images == sorted(images)


def test_a_total_limit_is_shared_by_classes_and_kinds() -> None:
    cases = [Case("background", row, 2, 0, np.array(LEFT), score=score)
             for row in (0, 1) for score in (0.3, 0.9, 0.5)]  # fmt: skip
    kept = select_worst(cases, 3, max_crops=3).cases
    assert sorted((case.row, case.score) for case in kept) == [(0, 0.5), (0, 0.9), (1, 0.9)]
    # Many confusions of one class do not crowd out the false positives of the others.
    many = [Case("confusion", 0, column, 0, np.array(LEFT), 0.9) for column in range(1, 90)]
    chosen = select_worst([*many, *cases], 3, max_crops=12).cases
    assert {case.kind for case in chosen} == {"background", "confusion"}
    assert sum(case.kind == "background" for case in chosen) == len(cases)
    # While there is room, every cell has its worst case.
    assert len(select_worst([*many, *cases], 3, max_crops=190).cases) == len(many) + len(cases)
    assert select_worst([], 3).cases == ()


def test_an_image_without_an_entry_has_no_detections() -> None:
    (case,) = find_cases([record(1, [LEFT], [0])], {}, 2)
    assert case.kind == "missed"
    (case,) = find_cases([record(1, [LEFT], [0])], {1: Detections.empty()}, 2)
    assert case.kind == "missed"
