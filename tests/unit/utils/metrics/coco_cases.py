"""Images with labels and detections to evaluate, and pycocotools' results on them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from utils.metrics.coco import CocoMetrics, coco_metrics
from utils.metrics.matches import match_images
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


def perfect(records) -> dict[int, Detections]:
    found = {}
    for one in records:
        scores = np.linspace(0.9, 0.5, len(one.targets))
        found[one.image_id] = detections(one.targets.boxes, scores, one.targets.class_ids)
    return found


def evaluate(records, found, names: Sequence[str] = NAMES) -> CocoMetrics:
    return coco_metrics(match_images(records, found, len(names)), names)


def pycocotools(
    records: Sequence[ImageRecord], found: Mapping[int, Detections], num_classes: int = len(NAMES)
) -> COCOeval:
    """pycocotools on the json that COCO would ship and the json a user would submit."""
    annotations = []
    for one in records:
        for labelled, areas, crowd in ((one.targets, one.areas, 0), (one.crowd, None, 1)):
            for k, (box, class_id) in enumerate(
                zip(labelled.boxes, labelled.class_ids, strict=True)
            ):
                x1, y1, x2, y2 = (float(v) for v in box)
                area = (x2 - x1) * (y2 - y1) if areas is None else float(areas[k])
                annotations.append({
                    "id": len(annotations) + 1, "image_id": one.image_id, "iscrowd": crowd,
                    "category_id": int(class_id), "bbox": [x1, y1, x2 - x1, y2 - y1], "area": area,
                })  # fmt: skip
    truth, results = COCO(), COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": one.image_id, "width": 400, "height": 300} for one in records],
        "annotations": annotations,
        "categories": [{"id": k, "name": str(k)} for k in range(num_classes)],
    }
    results.dataset = {**truth.dataset, "annotations": _results(records, found)}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        results.createIndex()
        evaluator = COCOeval(truth, results, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def _results(records, found) -> list[dict]:
    """As `loadRes` makes them; it refuses an empty list."""
    rows = [
        (one.image_id, *row)
        for one in records
        for row in rows_of(found.get(one.image_id, Detections.empty()))
    ]
    results = []
    for image_id, box, score, class_id in rows:
        x1, y1, x2, y2 = (float(v) for v in box)
        results.append({
            "id": len(results) + 1, "image_id": image_id, "category_id": int(class_id),
            "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1),
            "score": float(score), "iscrowd": 0,
        })  # fmt: skip
    return results
