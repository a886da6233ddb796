"""AP against pycocotools run by itself on json files, and by hand."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from utils.boxes import pairwise_iou
from utils.engine.distributed import Ranks
from utils.metrics.coco import CocoMetrics, best_f1_point, evaluate_coco
from utils.metrics.coco_format import coco_results
from utils.structures import Detections, ImageRecord, Targets

STATS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100")
NAMES = ("cat", "dog", "owl", "never seen")


def targets(boxes, class_ids) -> Targets:
    return Targets(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(class_ids, np.int64).reshape(-1)
    )


def record(image_id, boxes=(), class_ids=(), crowd=None, areas=None) -> ImageRecord:
    found = targets(boxes, class_ids)
    if areas is None:
        areas = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(1)
    nothing = Targets.empty()
    return ImageRecord(
        Path(f"{image_id}.jpg"), (300, 400), found, image_id, areas, crowd or nothing
    )


def detections(boxes, scores, class_ids) -> Detections:
    found = targets(boxes, class_ids)
    return Detections(found.boxes, np.array(scores, np.float32).reshape(-1), found.class_ids)


def random_boxes(rng, count):
    corner = rng.uniform(0, (300, 200), (count, 2))
    size = rng.uniform(4, 100, (count, 2)) ** rng.uniform(0.5, 1, (count, 1))
    # In eighths, so that float32, float64 and the text of a json agree.
    return np.round(np.concatenate((corner, corner + size), 1) * 8) / 8


def random_case(seed: int):
    """Images with and without objects and crowds; detections near the truth and far from it."""
    rng = np.random.default_rng(seed)
    records, found = [], {}
    for image_id in range(3, 3 + 12):
        count = int(rng.integers(0, 7)) if image_id % 4 else 0
        boxes, class_ids = random_boxes(rng, count), rng.integers(0, 3, count)
        crowd = None
        if image_id % 5 == 0:
            crowd = targets(random_boxes(rng, 2) + np.array([0, 0, 60, 60]), rng.integers(0, 3, 2))
        areas = np.round(rng.uniform(0.3, 1, count) * (boxes[:, 2:] - boxes[:, :2]).prod(1))
        records.append(record(image_id, boxes, class_ids, crowd, areas.astype(np.float32)))
        near = np.concatenate([boxes, *([crowd.boxes] if crowd else [])])
        near_ids = np.concatenate([class_ids, *([crowd.class_ids] if crowd else [])])
        repeats = 1 + int(rng.integers(0, 2))
        near, near_ids = near.repeat(repeats, 0), near_ids.repeat(repeats)
        near = np.round((near + rng.normal(0, 4, near.shape)) * 8) / 8
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        far = random_boxes(rng, int(rng.integers(0, 5)))
        every = np.concatenate((near, far))
        ids = np.concatenate((near_ids, rng.integers(0, 3, len(far))))
        scores = rng.permutation(np.arange(1, len(every) + 1)) / (len(every) + 1)
        scores = scores.astype(np.float32)
        if image_id != 6:  # one image without an entry at all
            order = np.argsort(-scores)
            found[image_id] = detections(every[order], scores[order], ids[order])
    return records, found


def rows_of(one: Detections):
    return zip(one.boxes, one.scores, one.class_ids, strict=True)


def evaluate_from_files(folder: Path, records, found, num_classes: int) -> COCOeval:
    """pycocotools as a user would run it, on files that other code wrote."""
    annotations = []
    for one in records:
        groups = ((one.targets, one.areas, 0), (one.crowd, None, 1))
        for labelled, areas, crowd in groups:
            for k, (box, class_id) in enumerate(
                zip(labelled.boxes, labelled.class_ids, strict=True)
            ):
                x1, y1, x2, y2 = (float(v) for v in box)
                area = (x2 - x1) * (y2 - y1) if areas is None else float(areas[k])
                annotations.append({
                    "id": len(annotations) + 1, "image_id": one.image_id, "iscrowd": crowd,
                    "category_id": int(class_id), "bbox": [x1, y1, x2 - x1, y2 - y1], "area": area,
                })  # fmt: skip
    truth = {
        "images": [{"id": one.image_id, "width": 400, "height": 300} for one in records],
        "annotations": annotations,
        "categories": [{"id": k, "name": NAMES[k]} for k in range(num_classes)],
    }
    results = [
        {"image_id": image_id, "category_id": int(class_id), "score": float(score),
         "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)]}
        for image_id, one in found.items()
        for (x1, y1, x2, y2), score, class_id in rows_of(one)
    ]  # fmt: skip
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "truth.json"))
        evaluator = COCOeval(coco, coco.loadRes(str(folder / "results.json")), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


@pytest.mark.parametrize("seed", range(5))
def test_equals_pycocotools(tmp_path, seed):
    records, found = random_case(seed)
    ours = evaluate_coco(records, found, NAMES)
    evaluator = evaluate_from_files(tmp_path, records, found, len(NAMES))
    for name, expected in zip(STATS, evaluator.stats, strict=False):
        assert getattr(ours, name) == pytest.approx(max(expected, 0), abs=1e-6), name
    assert 0.05 < ours.AP < 0.95  # the case says something
    for class_id, result in enumerate(ours.per_class):
        precision = evaluator.eval["precision"][:, :, class_id, 0, -1]
        known = precision[precision > -1]
        expected = (known.mean(), precision[0].mean()) if len(known) else (0, 0)
        figures = (result.AP, result.AP50)
        assert figures == pytest.approx(expected, abs=1e-6)
        assert result.name == NAMES[class_id]
        assert result.instances == sum((r.targets.class_ids == class_id).sum() for r in records)
    assert ours.images == 12
    assert ours.instances == sum(len(r.targets) for r in records)


def perfect(records) -> dict[int, Detections]:
    found = {}
    for one in records:
        scores = np.linspace(0.9, 0.5, len(one.targets))
        found[one.image_id] = detections(one.targets.boxes, scores, one.targets.class_ids)
    return found


def test_perfect_detections():
    records, _ = random_case(0)
    records = [dataclasses.replace(one, crowd=Targets.empty()) for one in records]
    metrics = evaluate_coco(records, perfect(records), NAMES)
    figures = [metrics.AP, metrics.AP50, metrics.AP75]
    assert figures == pytest.approx([1, 1, 1])
    assert metrics.precision == metrics.recall == 1.0
    assert [result.AP for result in metrics.per_class] == pytest.approx([1, 1, 1, 0])


@pytest.mark.parametrize("found", [{}, {3: Detections.empty()}])
def test_nothing_found(found):
    records, _ = random_case(0)
    metrics = evaluate_coco(records, found, NAMES)
    assert [getattr(metrics, name) for name in STATS] == [0] * 9
    assert metrics.precision == metrics.recall == 0
    assert [r.AP for r in metrics.per_class] == [0] * 4
    assert metrics.instances == sum(r.instances for r in metrics.per_class) > 0


def test_nothing_labelled():
    """All figures are 0, not -1 and not NaN."""
    found = {1: detections([[0, 0, 10, 10]], [0.9], [0])}
    for records in ([record(1)], [record(1, crowd=targets([[0, 0, 9, 9]], [0]))]):
        metrics = evaluate_coco(records, found, NAMES)
        assert [getattr(metrics, name) for name in STATS] == [0] * 9
        assert metrics.instances == 0
        assert not metrics.curves.present.any()
    assert evaluate_coco([], {}, NAMES).images == 0


def test_a_crowd_forgives():
    """Detections inside a crowd are neither right nor wrong."""
    box, group = [10, 10, 30, 30], [100, 100, 300, 300]
    inside = [[110, 110, 130, 130], [200, 200, 240, 250]]
    found = {1: detections([*inside, box], [0.9, 0.8, 0.7], [0, 0, 0])}
    forgiven = record(1, [box], [0], crowd=targets([group], [0]))
    metrics = evaluate_coco([forgiven], found, ["x"])
    figures = [metrics.AP, metrics.precision, metrics.recall]
    assert figures == pytest.approx([1, 1, 1])
    strictly = evaluate_coco([record(1, [box], [0])], found, ["x"]).AP
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
    curves = evaluate_coco(records, found, NAMES).curves
    assert curves.present.tolist() == [True, True, True, False]
    for class_id in range(3):
        instances = sum((r.targets.class_ids == class_id).sum() for r in records)
        for place in (0, 137, 500, 733, 999):
            right, total = greedy_hits(records, found, class_id, curves.confidence[place])
            assert curves.recall[class_id, place] == pytest.approx(right / instances)
            assert curves.precision[class_id, place] == pytest.approx(right / total if total else 1)


@pytest.mark.parametrize("seed", range(3))
def test_the_point_of_best_f1(seed):
    records, found = random_case(seed)
    metrics: CocoMetrics = evaluate_coco(records, found, NAMES)
    points = []
    for place in range(len(metrics.curves.confidence)):
        precision = metrics.curves.precision[:3, place]
        recall = metrics.curves.recall[:3, place]
        f1 = [2 * p * r / (p + r) if p + r else 0 for p, r in zip(precision, recall, strict=True)]
        points.append((sum(f1) / 3, precision.mean(), recall.mean()))
    best = max(points, key=lambda point: point[0])
    assert best_f1_point(metrics.curves) == pytest.approx(best[1:])
    assert (metrics.precision, metrics.recall) == pytest.approx(best[1:])


def test_results_for_the_coco_server():
    found = {7: detections([[1.25, 2, 11.25, 22]], [0.123456], [1])}
    assert coco_results([record(7), record(8)], found, category_ids=[3, 90]) == [
        {"image_id": 7, "category_id": 90, "bbox": [1.25, 2.0, 10.0, 20.0], "score": 0.12346}
    ]


class NotTheLastError(Exception):
    pass


class OneAfterTheOther(Ranks):
    """Ranks run in turn: the last one gathers what all found."""

    found: list = []  # noqa: RUF012 - one list for all

    def gather(self, value):
        self.found.append(value)
        if self.rank + 1 < self.count:
            raise NotTheLastError
        return list(self.found)


@pytest.mark.parametrize("count", [1, 2, 3, 6], ids=lambda count: f"{count} ranks")
def test_ranks_that_share_the_classes_find_what_one_finds(count):
    """With 4 classes and 6 ranks, two have nothing to evaluator."""
    records, found = random_case(3)
    alone = evaluate_coco(records, found, NAMES)

    OneAfterTheOther.found.clear()
    for rank in range(count - 1):
        with pytest.raises(NotTheLastError):
            evaluate_coco(records, found, NAMES, OneAfterTheOther(rank, rank, count))
    last = OneAfterTheOther(count - 1, count - 1, count)
    together = evaluate_coco(records, found, NAMES, last)

    for field in dataclasses.fields(CocoMetrics):
        if field.name != "curves":
            assert getattr(together, field.name) == getattr(alone, field.name), field.name
    for field in dataclasses.fields(alone.curves):
        assert np.array_equal(
            getattr(together.curves, field.name), getattr(alone.curves, field.name)
        )
