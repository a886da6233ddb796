"""AP against pycocotools and by hand."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from tests.unit.utils.metrics.coco_cases import (
    NAMES,
    STATS,
    detections,
    evaluate,
    perfect,
    pycocotools,
    random_case,
    record,
    targets,
)
from utils.boxes import pairwise_iou
from utils.metrics.coco_format import coco_results
from utils.structures import Detections, Targets


@pytest.mark.parametrize("seed", range(5))
def test_equals_pycocotools(seed):
    records, found = random_case(seed)
    ours = evaluate(records, found)
    evaluator = pycocotools(records, found)
    for name, expected in zip(STATS, evaluator.stats, strict=False):
        assert getattr(ours, name) == pytest.approx(max(expected, 0), abs=1e-12), name
    assert 0.05 < ours.AP < 0.95  # the case says something
    for class_id, result in enumerate(ours.per_class):
        precision = evaluator.eval["precision"][:, :, class_id, 0, -1]
        known = precision[precision > -1]
        expected = (known.mean(), precision[0].mean()) if len(known) else (0, 0)
        figures = (result.AP, result.AP50)
        assert figures == pytest.approx(expected, abs=1e-12)
        assert result.name == NAMES[class_id]
        instances = [(r.targets.class_ids == class_id).sum() for r in records]
        assert (result.instances, result.images) == (sum(instances), np.count_nonzero(instances))
    assert ours.images == 12
    assert ours.instances == sum(len(r.targets) for r in records)


def test_perfect_detections():
    records, _ = random_case(0)
    records = [dataclasses.replace(one, crowd=Targets.empty()) for one in records]
    metrics = evaluate(records, perfect(records))
    figures = [metrics.AP, metrics.AP50, metrics.AP75]
    assert figures == pytest.approx([1, 1, 1])
    assert metrics.precision == metrics.recall == 1.0
    assert [result.AP for result in metrics.per_class] == pytest.approx([1, 1, 1, 0])


@pytest.mark.parametrize("found", [{}, {3: Detections.empty()}])
def test_nothing_found(found):
    records, _ = random_case(0)
    metrics = evaluate(records, found)
    assert [getattr(metrics, name) for name in STATS] == [0] * 9
    assert metrics.precision == metrics.recall == 0
    assert [r.AP for r in metrics.per_class] == [0] * 4
    assert metrics.instances == sum(r.instances for r in metrics.per_class) > 0


def test_a_labelled_class_without_detections_has_no_precision():
    """As in YOLOv5: 0 in its row, in its curve and in the mean, with detections of others too."""
    records = [record(1, [[0, 0, 10, 10], [20, 20, 30, 30]], [0, 1])]
    metrics = evaluate(records, {1: detections([[0, 0, 10, 10]], [0.9], [0])})
    assert [result.precision for result in metrics.per_class] == [1.0, 0.0, 0.0, 0.0]
    assert metrics.precision == 0.5
    assert not metrics.curves.precision[1].any()


def test_nothing_labelled():
    """All figures are 0, not -1 and not NaN."""
    found = {1: detections([[0, 0, 10, 10]], [0.9], [0])}
    for records in ([record(1)], [record(1, crowd=targets([[0, 0, 9, 9]], [0]))]):
        metrics = evaluate(records, found)
        assert [getattr(metrics, name) for name in STATS] == [0] * 9
        assert metrics.instances == 0
        assert not metrics.curves.present.any()
    assert evaluate([], {}).images == 0


def test_a_crowd_forgives():
    """Detections inside a crowd are neither right nor wrong."""
    box, group = [10, 10, 30, 30], [100, 100, 300, 300]
    inside = [[110, 110, 130, 130], [200, 200, 240, 250]]
    found = {1: detections([*inside, box], [0.9, 0.8, 0.7], [0, 0, 0])}
    forgiven = record(1, [box], [0], crowd=targets([group], [0]))
    metrics = evaluate([forgiven], found, ["x"])
    figures = [metrics.AP, metrics.precision, metrics.recall]
    assert figures == pytest.approx([1, 1, 1])
    strictly = evaluate([record(1, [box], [0])], found, ["x"]).AP
    assert strictly == pytest.approx(1 / 3)


def greedy_hits(records, found, class_id, confidence):
    """(right, all) detections at a confidence, IoU 0.5: best score first, each object once."""
    right = total = 0
    for one in records:
        boxes = one.targets.boxes[one.targets.class_ids == class_id]
        free, mine = set(range(len(boxes))), found.get(one.image_id, Detections.empty())
        chosen = (mine.class_ids == class_id) & (mine.scores >= confidence)
        for box in mine.boxes[chosen]:
            total += 1
            overlaps = pairwise_iou(box[None].astype(np.float64), boxes.astype(np.float64))[0]
            best = max(free, key=lambda k: overlaps[k], default=None)
            if best is not None and overlaps[best] >= 0.5:
                free.remove(best)
                right += 1
    return right, total


@pytest.mark.parametrize("seed", range(3))
def test_precision_and_recall_against_counting(seed):
    records, found = random_case(seed)
    records = [dataclasses.replace(one, crowd=Targets.empty()) for one in records]
    curves = evaluate(records, found).curves
    assert curves.present.tolist() == [True, True, True, False]
    for class_id in range(3):
        instances = sum((r.targets.class_ids == class_id).sum() for r in records)
        for index in (0, 137, 500, 733, 999):
            right, total = greedy_hits(records, found, class_id, curves.confidence[index])
            assert curves.recall[class_id, index] == pytest.approx(right / instances)
            assert curves.precision[class_id, index] == pytest.approx(right / total if total else 1)


@pytest.mark.parametrize("seed", range(3))
def test_the_point_of_best_f1(seed):
    records, found = random_case(seed)
    metrics = evaluate(records, found)
    points = []
    for index in range(len(metrics.curves.confidence)):
        precision = metrics.curves.precision[:3, index]
        recall = metrics.curves.recall[:3, index]
        f1 = [2 * p * r / (p + r) if p + r else 0 for p, r in zip(precision, recall, strict=True)]
        points.append((sum(f1) / 3, precision, recall))
    _, precision, recall = max(points, key=lambda point: point[0])
    assert (metrics.precision, metrics.recall) == pytest.approx((precision.mean(), recall.mean()))
    of_class = [(result.precision, result.recall) for result in metrics.per_class]
    assert of_class == [*zip(precision, recall, strict=True), (0.0, 0.0)]


@pytest.mark.parametrize("first", [2**53, 2**63, 10**30])
def test_image_ids_beyond_float64_and_int64_stay_apart(first):
    """Neighbouring ids of 2^53 and above are the same float64."""
    boxes = [[[10 * n, 5, 10 * n + 40, 60]] for n in range(8)]
    records = [record(first + n, box, [0]) for n, box in enumerate(boxes)]
    found = {first + n: detections(box, [0.9], [0]) for n, box in enumerate(boxes)}

    assert evaluate(records, found).AP == 1
    results = json.loads(json.dumps(coco_results(records, found, category_ids=[first])))
    assert [result["image_id"] for result in results] == [first + n for n in range(8)]
    assert {result["category_id"] for result in results} == {first}


def test_results_for_the_coco_server():
    found = {7: detections([[1.25, 2, 11.25, 22]], [0.123456], [1])}
    assert coco_results([record(7), record(8)], found, category_ids=[3, 90]) == [
        {"image_id": 7, "category_id": 90, "bbox": [1.25, 2.0, 10.0, 20.0], "score": 0.12346}
    ]
