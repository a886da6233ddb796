"""Average precision as COCO defines it: pycocotools is the judge on every data set."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from utils.boxes import xyxy_to_xywh
from utils.errors import MissingPackageError
from utils.structures import Detections, ImageRecord

CURVE_POINTS = 1000  # confidences at which precision and recall are reported
# pycocotools' figures in its order; AR by size follows and is not reported.
_STATS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100")
_IOU_50, _ALL_AREAS, _MAX_DETECTIONS = 0, 0, -1  # positions in pycocotools' result arrays


@dataclass(frozen=True, slots=True)
class ClassResult:
    """One class: AP over IoU 0.50 to 0.95, AP at 0.50, labelled objects; 0 without objects."""

    name: str
    AP: float
    AP50: float
    instances: int


@dataclass(frozen=True, slots=True)
class ScoreCurves:
    """Precision and recall against confidence at IoU 0.50.

    Attributes:
        confidence: (CURVE_POINTS,) from 0 to 1.
        precision: (C, CURVE_POINTS).
        recall: (C, CURVE_POINTS).
        recall_points: (101,) recalls at which `precision_at_recall` is given.
        precision_at_recall: (C, 101), COCO's precision-recall curve.
        present: (C,) whether a class has labelled objects.
    """

    confidence: npt.NDArray[np.float64]
    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    recall_points: npt.NDArray[np.float64]
    precision_at_recall: npt.NDArray[np.float64]
    present: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CocoMetrics:
    """COCO's twelve figures, precision and recall where the mean F1 is best, and their details.

    Figures of sizes or classes that have no objects are 0.
    """

    AP: float
    AP50: float
    AP75: float
    AP_small: float
    AP_medium: float
    AP_large: float
    AR1: float
    AR10: float
    AR100: float
    precision: float
    recall: float
    images: int
    instances: int
    per_class: tuple[ClassResult, ...]
    curves: ScoreCurves


def coco_results(
    records: Sequence[ImageRecord],
    detections: Mapping[int, Detections],
    category_ids: Sequence[int],
) -> list[dict[str, Any]]:
    """Detections in COCO's results form, boxes as corner and size in original pixels.

    Args:
        records: the pictures.
        detections: per image id, in original pixels.
        category_ids: the COCO category of each class id.
    """
    results: list[dict[str, Any]] = []
    for record in records:
        found = detections.get(record.image_id, Detections.empty())
        boxes = xyxy_to_xywh(found.boxes).astype(np.float64).round(3).tolist()
        rows = zip(boxes, found.scores.tolist(), found.class_ids.tolist(), strict=True)
        results.extend(
            {
                "image_id": record.image_id,
                "category_id": category_ids[class_id],
                "bbox": box,
                "score": round(score, 5),
            }
            for box, score, class_id in rows
        )
    return results


def evaluate_coco(
    records: Sequence[ImageRecord], detections: Mapping[int, Detections], class_names: Sequence[str]
) -> CocoMetrics:
    """Judge detections against labels.

    Args:
        records: the pictures with their labels; crowd regions are ignored the COCO way.
        detections: per image id, boxes in original pixels.
        class_names: in class-id order.

    Raises:
        MissingPackageError: pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise MissingPackageError("AP needs pycocotools: pip install pycocotools") from None
    rows = _result_rows(records, detections)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = COCO()
        truth.dataset = _ground_truth(records, class_names)
        truth.createIndex()
        if not len(rows):
            return _nothing_found(records, class_names)
        judge = COCOeval(truth, truth.loadRes(rows), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    stats = [max(float(value), 0.0) for value in judge.stats]  # COCO says -1 for "no such objects"
    curves = _score_curves(judge, records, len(class_names))
    precision, recall = best_f1_point(curves)
    return CocoMetrics(
        **dict(zip(_STATS, stats, strict=False)),
        precision=precision,
        recall=recall,
        images=len(records),
        instances=sum(len(record.targets) for record in records),
        per_class=_per_class(judge.eval["precision"], records, class_names),
        curves=curves,
    )


def best_f1_point(curves: ScoreCurves) -> tuple[float, float]:
    """Mean precision and recall over the labelled classes, at the confidence of best mean F1."""
    if not curves.present.any():
        return 0.0, 0.0
    precision, recall = curves.precision[curves.present], curves.recall[curves.present]
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-16)
    best = int(f1.mean(0).argmax())
    return float(precision[:, best].mean()), float(recall[:, best].mean())


def _ground_truth(records: Sequence[ImageRecord], class_names: Sequence[str]) -> dict[str, Any]:
    """The labels as the json COCO would ship, with class ids as categories."""
    annotations: list[dict[str, Any]] = []
    for record in records:
        crowd_areas = (record.crowd.boxes[:, 2:] - record.crowd.boxes[:, :2]).prod(1)
        for targets, areas, crowd in (
            (record.targets, record.areas, 0),
            (record.crowd, crowd_areas, 1),
        ):
            boxes = xyxy_to_xywh(targets.boxes.astype(np.float64))
            for box, class_id, area in zip(boxes, targets.class_ids, areas, strict=True):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": record.image_id,
                        "category_id": int(class_id),
                        "bbox": box.tolist(),
                        "area": float(area),
                        "iscrowd": crowd,
                    }
                )
    images = [
        {"id": record.image_id, "height": record.image_hw[0], "width": record.image_hw[1]}
        for record in records
    ]
    categories = [{"id": index, "name": name} for index, name in enumerate(class_names)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def _result_rows(
    records: Sequence[ImageRecord], detections: Mapping[int, Detections]
) -> npt.NDArray[np.float64]:
    """(D, 7) rows of image id, x, y, w, h, score, class id, as pycocotools loads them."""
    parts = [np.zeros((0, 7))]
    for record in records:
        found = detections.get(record.image_id, Detections.empty())
        columns = (
            np.full((len(found), 1), record.image_id, np.float64),
            xyxy_to_xywh(found.boxes.astype(np.float64)),
            found.scores.astype(np.float64)[:, None],
            found.class_ids.astype(np.float64)[:, None],
        )
        parts.append(np.concatenate(columns, 1))
    return np.concatenate(parts)


def _instances(records: Sequence[ImageRecord], num_classes: int) -> npt.NDArray[np.int64]:
    ids = [record.targets.class_ids for record in records]
    return np.bincount(np.concatenate([np.zeros(0, np.int64), *ids]), minlength=num_classes)


def _per_class(
    precision: npt.NDArray[np.float64], records: Sequence[ImageRecord], class_names: Sequence[str]
) -> tuple[ClassResult, ...]:
    """Per class from pycocotools' precision (IoU, recall, class, area, max detections)."""
    instances = _instances(records, len(class_names))
    results = []
    for class_id, name in enumerate(class_names):
        values = precision[:, :, class_id, _ALL_AREAS, _MAX_DETECTIONS]
        known = values.min() > -1
        results.append(
            ClassResult(
                name,
                AP=float(values.mean()) if known else 0.0,
                AP50=float(values[_IOU_50].mean()) if known else 0.0,
                instances=int(instances[class_id]),
            )
        )
    return tuple(results)


def _score_curves(judge: Any, records: Sequence[ImageRecord], num_classes: int) -> ScoreCurves:
    """Precision and recall against confidence from pycocotools' own matches at IoU 0.50."""
    confidence = np.linspace(0, 1, CURVE_POINTS)
    precision = np.zeros((num_classes, CURVE_POINTS))
    recall = np.zeros((num_classes, CURVE_POINTS))
    instances = _instances(records, num_classes)
    images_per_block = len(judge.params.imgIds)
    blocks = len(judge.params.areaRng) * images_per_block  # evalImgs runs class, area, picture
    for class_id in range(num_classes):
        start = class_id * blocks + _ALL_AREAS * images_per_block
        matched = [entry for entry in judge.evalImgs[start : start + images_per_block] if entry]
        scores, right = _matches(matched)
        order = np.argsort(-scores, kind="stable")
        hits = np.cumsum(right[order])
        taken = np.searchsorted(-scores[order], -confidence, side="right")  # score >= confidence
        hits_at = np.concatenate([[0], hits])[taken]
        precision[class_id] = np.where(taken > 0, hits_at / np.maximum(taken, 1), 1.0)
        recall[class_id] = hits_at / max(int(instances[class_id]), 1)
    curve = judge.eval["precision"][_IOU_50, :, :, _ALL_AREAS, _MAX_DETECTIONS]
    return ScoreCurves(
        confidence=confidence,
        precision=precision,
        recall=recall,
        recall_points=np.asarray(judge.params.recThrs),
        precision_at_recall=np.clip(curve.T, 0, None),
        present=instances > 0,
    )


def _matches(entries: list[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Scores of the detections that count at IoU 0.50, and whether each is right."""
    scores, right = [np.zeros(0)], [np.zeros(0)]
    for entry in entries:
        counts = ~np.asarray(entry["dtIgnore"][_IOU_50], bool)
        scores.append(np.asarray(entry["dtScores"])[counts])
        right.append((np.asarray(entry["dtMatches"][_IOU_50])[counts] > 0).astype(float))
    return np.concatenate(scores), np.concatenate(right)


def _nothing_found(records: Sequence[ImageRecord], class_names: Sequence[str]) -> CocoMetrics:
    instances = _instances(records, len(class_names))
    num_classes = len(class_names)
    curves = ScoreCurves(
        confidence=np.linspace(0, 1, CURVE_POINTS),
        precision=np.zeros((num_classes, CURVE_POINTS)),
        recall=np.zeros((num_classes, CURVE_POINTS)),
        recall_points=np.linspace(0, 1, 101),
        precision_at_recall=np.zeros((num_classes, 101)),
        present=instances > 0,
    )
    per_class = tuple(
        ClassResult(name, 0.0, 0.0, int(count))
        for name, count in zip(class_names, instances, strict=True)
    )
    zeros = dict.fromkeys((*_STATS, "precision", "recall"), 0.0)
    return CocoMetrics(
        **zeros,
        images=len(records),
        instances=int(instances.sum()),
        per_class=per_class,
        curves=curves,
    )
