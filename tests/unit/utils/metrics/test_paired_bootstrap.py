"""AP of drawn images against pycocotools on images that really are repeated."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from tests.unit.utils.metrics.coco_cases import (
    NAMES,
    detections,
    evaluate,
    perfect,
    pycocotools,
    random_boxes,
    random_case,
)
from utils.metrics import matches
from utils.metrics.matches import ImageMatches
from utils.metrics.paired_bootstrap import Interval, ap_difference_interval, average_precisions
from utils.structures import Detections, ImageRecord, Targets

SEEDS = range(5)
Found = dict[int, Detections]


def match_images(records, found, names=NAMES) -> ImageMatches:
    return matches.match_images(records, found, len(names))


def evaluated(seed: int) -> ImageMatches:
    return match_images(*random_case(seed))


def identity(one: ImageMatches) -> np.ndarray:
    return np.ones((1, len(one.image_ids)), np.int64)


def repeated(records: list[ImageRecord], found: Found, counts: np.ndarray):
    """Image k really there `counts[k]` times, each copy with a number of its own."""
    copies, found_in_copies = [], {}
    for record, count in zip(records, counts, strict=True):
        for _ in range(count):
            image_id = len(copies) + 1
            copies.append(replace(record, image_id=image_id))
            found_in_copies[image_id] = found.get(record.image_id, Detections.empty())
    return copies, found_in_copies


def pycocotools_AP(records: list[ImageRecord], found: Found) -> float:
    return max(float(pycocotools(records, found).stats[0]), 0.0)


def shifted(found: Found, pixels: float) -> Found:
    return {k: replace(one, boxes=one.boxes + np.float32(pixels)) for k, one in found.items()}


@pytest.mark.parametrize("seed", SEEDS)
def test_every_image_once_is_pycocotools(seed):
    """With crowds, empty images, an image without detections and a class without objects."""
    records, found = random_case(seed)
    one = match_images(records, found)
    expected = pycocotools_AP(records, found)
    assert 0.05 < expected < 0.95  # the case says something
    assert average_precisions(one, identity(one))[0] == pytest.approx(expected, abs=1e-12)
    ours = evaluate(records, found).AP
    assert average_precisions(one, identity(one))[0] == pytest.approx(ours, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_repeated_images_are_pycocotools(seed):
    records, found = random_case(seed)
    one = match_images(records, found)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(12, np.full(12, 1 / 12), 8)
    expected = [pycocotools_AP(*repeated(records, found, row)) for row in counts]
    np.testing.assert_allclose(average_precisions(one, counts), expected, rtol=0, atol=1e-12)


def test_a_class_that_is_not_drawn_is_left_out():
    """Two images, each with one class: found in the first, missed in the second."""
    records = [
        replace(random_case(0)[0][0], image_id=number, targets=one, areas=np.ones(1, np.float32))
        for number, one in enumerate((targets_of(0), targets_of(1)), 1)
    ]
    records = [replace(one, crowd=Targets.empty()) for one in records]
    found = {1: detections(records[0].targets.boxes, [0.9], [0])}
    one = match_images(records, found)
    counts = np.array([[1, 1], [2, 0], [0, 2]])
    assert average_precisions(one, counts).tolist() == pytest.approx([0.5, 1.0, 0.0], abs=1e-12)


def targets_of(class_id: int) -> Targets:
    return Targets(np.array([[10, 10, 60, 80]], np.float32), np.array([class_id], np.int64))


def test_nothing_found_and_nothing_labelled():
    records, found = random_case(0)
    nothing = match_images(records, {})
    assert average_precisions(nothing, identity(nothing)).tolist() == [0.0]
    empty = [replace(one, targets=Targets.empty(), areas=np.zeros(0)) for one in records]
    unlabelled = match_images(empty, found)
    assert average_precisions(unlabelled, identity(unlabelled)).tolist() == [0.0]
    assert ap_difference_interval(unlabelled, unlabelled) == Interval(0.0, 0.0, 0.0)


def test_equal_detectors_do_not_differ():
    assert ap_difference_interval(evaluated(1), evaluated(1)) == Interval(0.0, 0.0, 0.0)


def test_the_worse_one_is_below_and_the_better_above():
    records, found = random_case(2)
    good = match_images(records, perfect(records))
    bad = match_images(records, shifted(perfect(records), 3))
    worse, better = ap_difference_interval(good, bad), ap_difference_interval(bad, good)
    assert -1 <= worse.low < worse.difference < worse.high < 0
    assert (better.low, better.high) == pytest.approx((-worse.high, -worse.low), abs=1e-12)
    assert better.difference == -worse.difference
    bounds = evaluate(records, perfect(records)), evaluate(records, found)
    other = ap_difference_interval(good, match_images(records, found), resamples=10)
    assert other.difference == pytest.approx(bounds[1].AP - bounds[0].AP, abs=1e-12)


def test_the_interval_is_the_middle_of_the_draws():
    """Against the definition, one draw after the other."""
    records, found = random_case(3)
    one, other = (match_images(records, f) for f in (found, shifted(found, 2)))
    draws = np.random.default_rng(7).multinomial(12, np.full(12, 1 / 12), 50)
    differences = [
        (average_precisions(other, row[None]) - average_precisions(one, row[None]))[0]
        for row in draws
    ]
    interval = ap_difference_interval(one, other, resamples=50, seed=7, coverage=0.8)
    assert (interval.low, interval.high) == pytest.approx(np.quantile(differences, (0.1, 0.9)))


def test_pairing_makes_it_narrow():
    """Two detectors that differ in one image: the spread of each AP does not count."""
    records, found = random_case(4)
    one = match_images(records, found)
    counts = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), 1000)
    low, high = np.quantile(average_precisions(one, counts), (0.025, 0.975))
    other = match_images(records, {**found, 3: shifted(found, 3)[3]})
    interval = ap_difference_interval(one, other)
    assert interval.high - interval.low < (high - low) / 2


def test_the_seed_decides():
    records, found = random_case(5)
    one, other = (match_images(records, f) for f in (found, shifted(found, 3)))
    first = ap_difference_interval(one, other, seed=1, resamples=100)
    assert ap_difference_interval(one, other, seed=1, resamples=100) == first
    assert ap_difference_interval(one, other, seed=2, resamples=100) != first


def test_other_labels_are_refused():
    records, found = random_case(0)
    one = match_images(records, found)
    fewer = match_images(records[1:], found)
    classes = match_images(records, found, NAMES[:3])
    unlabelled = [replace(r, targets=Targets.empty(), areas=np.zeros(0)) for r in records]
    for other in (fewer, classes, match_images(unlabelled, found)):
        with pytest.raises(ValueError, match="evaluated on the same images and labels"):
            ap_difference_interval(one, other)


@pytest.mark.parametrize(
    "wrong", [{"resamples": 0}, {"coverage": 0.0}, {"coverage": 1.0}, {"coverage": float("nan")}]
)
def test_numbers_without_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="expected at least 1"):
        ap_difference_interval(evaluated(0), evaluated(0), **wrong)


def test_no_images_are_refused():
    nothing = match_images([], {})
    with pytest.raises(ValueError, match="0 images"):
        ap_difference_interval(nothing, nothing)


@pytest.mark.benchmark
def test_how_long_it_takes():
    """64 images, 80 classes, 300 detections an image, 1000 draws; asserts only the order."""
    rng = np.random.default_rng(0)
    names = [f"class {number}" for number in range(80)]
    records, found = [], {}
    blank = random_case(0)[0][0]
    for image_id in range(64):
        boxes, class_ids = random_boxes(rng, 8), rng.integers(0, 80, 8)
        labels = Targets(boxes.astype(np.float32), class_ids)
        areas = np.full(8, 500, np.float32)
        records.append(replace(blank, image_id=image_id, targets=labels, areas=areas))
        near = boxes + rng.normal(0, 2, boxes.shape)
        every = np.concatenate((near, random_boxes(rng, 292)))
        ids = np.concatenate((class_ids, rng.integers(0, 80, 292)))
        found[image_id] = detections(every, np.sort(rng.random(300))[::-1], ids)
    start = time.perf_counter()
    one, other = (match_images(records, f, names) for f in (found, shifted(found, 1)))
    middle = time.perf_counter()
    interval = ap_difference_interval(one, other)
    end = time.perf_counter()
    print(f"evaluator {middle - start:.1f} s, draw {end - middle:.1f} s: {interval}")  # noqa: T201
    assert end - start < 60
