"""Each detection's match against pycocotools', on cases full of ties and borders."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.utils.metrics.coco_cases import (
    NAMES,
    STATS,
    detections,
    evaluate,
    pycocotools,
    random_boxes,
    random_case,
    record,
    targets,
)
from utils.metrics.matches import AREA_RANGES, IOU_THRESHOLDS, MAX_DETECTIONS, match_images

# Few corners and sizes, so that many overlaps and scores are equal and some overlaps are exactly at
# a threshold (a box of 8 and one of 10 high on one corner: 0.8), some areas at the end of a range.
CORNERS = st.sampled_from([0.0, 4.0, 8.0])
SIDES = st.sampled_from([8.0, 10.0, 16.0, 20.0, 32.0, 96.0])
SCORES = st.sampled_from([0.125, 0.25, 0.5, 0.75])


@st.composite
def boxes(draw: st.DrawFn, most: int):
    rows = draw(st.lists(st.tuples(CORNERS, CORNERS, SIDES, SIDES), max_size=most))
    return [[x, y, x + width, y + height] for x, y, width, height in rows]


@st.composite
def cases(draw: st.DrawFn):
    records, found = [], {}
    image_ids = draw(st.lists(st.integers(1, 9), unique=True, min_size=1, max_size=3))

    def classes(count: int):
        return draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))

    for image_id in image_ids:  # in any order
        labelled, crowds, others = draw(boxes(5)), draw(boxes(2)), draw(boxes(7))
        crowd = targets(crowds, classes(len(crowds)))
        areas = None
        if draw(st.booleans()):
            size = len(labelled)
            ends = st.sampled_from([100.0, 32.0**2, 32.5**2, 96.0**2, 97.0**2])
            areas = np.array(draw(st.lists(ends, min_size=size, max_size=size)), np.float32)
        records.append(record(image_id, labelled, classes(len(labelled)), crowd, areas))
        scores = draw(st.lists(SCORES, min_size=len(others), max_size=len(others)))
        if others or draw(st.booleans()):
            found[image_id] = detections(others, scores, classes(len(others)))
    return records, found


def matches_of(evaluator, class_id: int):
    """From pycocotools' entries, by class, range of areas and image: best score first."""
    images, areas = len(evaluator.params.imgIds), len(AREA_RANGES)
    entries = np.array(evaluator.evalImgs, object).reshape(-1, areas, images)[class_id]
    none = np.zeros((len(IOU_THRESHOLDS), 0), bool)
    rows = [[one for one in row if one is not None] for row in entries]
    matched, ignored = (
        np.stack([np.concatenate([none, *(one[key] for one in row)], 1) for row in rows]) > 0
        for key in ("dtMatches", "dtIgnore")
    )
    scores = np.concatenate([np.zeros(0), *(one["dtScores"] for one in rows[0])])
    order = np.argsort(-scores, kind="stable")
    objects = [
        [0 if one is None else np.count_nonzero(one["gtIgnore"] == 0) for one in row]
        for row in entries
    ]
    return scores[order], (matched & ~ignored)[..., order], ~ignored[..., order], objects


def assert_same(records, found) -> None:
    evaluator = pycocotools(records, found)
    matches = match_images(records, found, len(NAMES))
    assert list(matches.image_ids) == list(evaluator.params.imgIds)
    for class_id, one in enumerate(matches.classes):
        scores, true_positive, counted, objects = matches_of(evaluator, class_id)
        assert one.scores.tolist() == scores.tolist()
        assert np.array_equal(one.true_positive, true_positive)
        assert np.array_equal(one.counted, counted)
        assert one.objects.tolist() == objects
    metrics = evaluate(records, found)
    for name, expected in zip(STATS, evaluator.stats, strict=False):
        assert getattr(metrics, name) == pytest.approx(max(expected, 0), abs=1e-12), name
    curve = evaluator.eval["precision"][0, :, :, 0, -1].T.clip(0)
    assert metrics.curves.precision_at_recall == pytest.approx(curve, abs=1e-12)


@given(case=cases())
@settings(max_examples=100, deadline=None)
def test_equals_pycocotools_on_ties_and_borders(case):
    assert_same(*case)


@pytest.mark.parametrize("seed", range(5))
def test_equals_pycocotools_on_random_boxes(seed):
    assert_same(*random_case(seed))


@pytest.mark.parametrize("left", [0, 8])
def test_of_equal_overlaps_the_last_object_is_taken(left):
    """A detection between two objects decides which of them the next detection finds free."""
    labelled = [[0, 0, 16, 16], [8, 0, 24, 16]]
    found = detections([[4, 0, 20, 16], [left, 0, left + 16, 16]], [0.9, 0.8], [0, 0])
    assert_same([record(1, labelled, [0, 0])], {1: found})
    first = match_images([record(1, labelled, [0, 0])], {1: found}, 1).classes[0]
    assert first.true_positive[0, 0].tolist() == [True, left == 0]


def test_more_than_a_hundred_of_a_class_are_cut_off():
    rng = np.random.default_rng(0)
    inside = [[10, 10, 60, 80]]
    far = np.concatenate((random_boxes(rng, 150) + 200, inside))
    found = {1: detections(far, np.linspace(0.9, 0.1, 151), np.zeros(151))}
    assert_same([record(1, inside, [0])], found)
    (first, *_) = match_images([record(1, inside, [0])], found, 1).classes
    assert len(first.scores) == MAX_DETECTIONS


def test_classes_that_the_labels_lack_are_dropped():
    found = {1: detections([[0, 0, 9, 9], [0, 0, 9, 9]], [0.9, 0.8], [5, 0])}
    assert_same([record(1, [[0, 0, 9, 9]], [0])], found)
    matches = match_images([record(1, [[0, 0, 9, 9]], [0])], found, len(NAMES))
    assert matches.confusion.sum() == matches.confusion[0, 0] == 1


@pytest.mark.benchmark
def test_how_long_it_takes():
    """1,000 images, 100 detections an image, 80 classes; asserts only the order."""
    rng = np.random.default_rng(0)
    records, found = [], {}
    for image_id in range(1000):
        labelled, class_ids = random_boxes(rng, 8), rng.integers(0, 80, 8)
        records.append(record(image_id + 1, labelled, class_ids))
        near = np.concatenate((labelled.repeat(3, 0), random_boxes(rng, 76)))
        ids = np.concatenate((class_ids.repeat(3), rng.integers(0, 80, 76)))
        found[image_id + 1] = detections(near, np.sort(rng.random(100))[::-1], ids)
    start = time.perf_counter()
    ours = evaluate(records, found, [str(k) for k in range(80)]).AP
    middle = time.perf_counter()
    theirs = pycocotools(records, found, 80).stats[0]
    end = time.perf_counter()
    print(f"ours {middle - start:.2f} s, pycocotools {end - middle:.2f} s")  # noqa: T201
    assert ours == pytest.approx(theirs, abs=1e-12)
    assert 5 * (middle - start) < end - middle
