"""Average precision as COCO defines it, on every data set; tested equal to pycocotools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from utils.metrics.matches import ALL_AREAS, IOU_50, ClassMatches, ImageMatches
from utils.metrics.overlaps import BoolArray, FloatArray64
from utils.structures import IntArray

RECALL_POINTS = np.linspace(0, 1, 101)  # COCO's
CONFIDENCES = np.linspace(0, 1, 1000)  # at which precision and recall are reported
MIN_MEANINGFUL_AP = 0.10  # below it, that two networks are alike says nothing
_SMALL, _MEDIUM, _LARGE = 1, 2, 3  # indices into AREA_RANGES
_IOU_75 = 5  # index into IOU_THRESHOLDS


@dataclass(frozen=True, slots=True)
class ClassResult:
    """One class; every figure is 0 where it has no objects.

    Attributes:
        name: of the class.
        AP: over IoU 0.50 to 0.95.
        AP50: at IoU 0.50.
        precision: at the confidence where the mean F1 of all classes is best; 0 without detections.
        recall: at the same confidence.
        images: those with labelled objects of the class.
        instances: its labelled objects.
    """

    name: str
    AP: float
    AP50: float
    precision: float
    recall: float
    images: int
    instances: int


@dataclass(frozen=True, slots=True)
class ScoreCurves:
    """Precision and recall against confidence at IoU 0.50.

    Attributes:
        confidence: (S,) from 0 to 1.
        precision: (C, S).
        recall: (C, S).
        recall_points: (101,) recalls at which `precision_at_recall` is given.
        precision_at_recall: (C, 101), COCO's precision-recall curve.
        present: (C,) whether a class has labelled objects.
    """

    confidence: FloatArray64
    precision: FloatArray64
    recall: FloatArray64
    recall_points: FloatArray64
    precision_at_recall: FloatArray64
    present: BoolArray

    def best_f1_index(self) -> int:
        """Index of the confidence where the mean F1 of the labelled classes is highest."""
        if not self.present.any():
            return 0
        precision, recall = self.precision[self.present], self.recall[self.present]
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-16)
        return int(f1.mean(0).argmax())


@dataclass(frozen=True, slots=True)
class CocoMetrics:
    """COCO's figures, precision and recall where the mean F1 is best, and their details.

    Figures of sizes or classes that have no objects are 0.

    Attributes:
        confusion: (C + 1, C + 1) counts, [predicted, true], background last.
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
    confusion: IntArray


def coco_metrics(matches: ImageMatches, class_names: Sequence[str]) -> CocoMetrics:
    """The figures of a detector, whose classes are named in class-id order."""
    # (A, T, 101, C), -1 where a class has no objects in a range of areas
    precision = np.stack([_precision_at_recall(one) for one in matches.classes], -1)
    recall = {k: np.stack([_recall(one, k) for one in matches.classes], -1) for k in (1, 10, 100)}
    curves = _score_curves(matches, precision[ALL_AREAS, IOU_50].T)
    best, present = curves.best_f1_index(), curves.present
    at_best = np.where(present, (curves.precision[:, best], curves.recall[:, best]), 0.0)  # (2, C)
    per_class = tuple(
        _class_result(name, one, precision[ALL_AREAS, ..., class_id], at_best[:, class_id])
        for class_id, (name, one) in enumerate(zip(class_names, matches.classes, strict=True))
    )
    return CocoMetrics(
        AP=_mean_of_known(precision[ALL_AREAS]),
        AP50=_mean_of_known(precision[ALL_AREAS, IOU_50]),
        AP75=_mean_of_known(precision[ALL_AREAS, _IOU_75]),
        AP_small=_mean_of_known(precision[_SMALL]),
        AP_medium=_mean_of_known(precision[_MEDIUM]),
        AP_large=_mean_of_known(precision[_LARGE]),
        AR1=_mean_of_known(recall[1]),
        AR10=_mean_of_known(recall[10]),
        AR100=_mean_of_known(recall[100]),
        precision=_mean_of_known(curves.precision[present, best]),
        recall=_mean_of_known(curves.recall[present, best]),
        images=len(matches.image_ids),
        instances=sum(result.instances for result in per_class),
        per_class=per_class,
        curves=curves,
        confusion=matches.confusion,
    )


def _mean_of_known(values: FloatArray64) -> float:
    """The mean without the -1 of what has no objects; 0 where nothing has."""
    known = values[values > -1]
    return float(known.mean()) if len(known) else 0.0


def _precision_at_recall(matches: ClassMatches) -> FloatArray64:
    """(A, T, 101) the highest precision at each recall or above it; -1 without objects."""
    areas, thresholds, _ = matches.true_positive.shape
    result = np.full((areas, thresholds, len(RECALL_POINTS)), -1.0)
    counted = np.cumsum(matches.counted, -1)
    for area, objects in enumerate(matches.objects.sum(1)):
        for threshold in range(thresholds) if objects else ():
            (found,) = np.nonzero(matches.true_positive[area, threshold])
            hits = np.arange(1, len(found) + 1)
            # Precision is highest at true positives. The summand is pycocotools', to the last bit.
            precision = hits / (counted[area, threshold, found] + np.spacing(1))
            hull = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
            result[area, threshold] = hull[np.searchsorted(hits / objects, RECALL_POINTS)]
    return result


def _recall(matches: ClassMatches, max_detections: int) -> FloatArray64:
    """(T,) recall with so many detections per image; -1 without objects."""
    hits = matches.true_positive[ALL_AREAS, :, matches.ranks < max_detections].sum(0)
    objects = matches.objects[ALL_AREAS].sum()
    return hits / objects if objects else np.full(len(hits), -1.0)


def _score_curves(matches: ImageMatches, precision_at_recall: FloatArray64) -> ScoreCurves:
    classes = matches.classes
    points = [_precision_recall_at_scores(one) for one in classes]
    precision, recall = (np.stack(values) for values in zip(*points, strict=True))
    return ScoreCurves(
        confidence=CONFIDENCES,
        precision=precision,
        recall=recall,
        recall_points=RECALL_POINTS,
        precision_at_recall=np.clip(precision_at_recall, 0, None),
        present=np.array([one.objects[ALL_AREAS].any() for one in classes], bool),
    )


def _precision_recall_at_scores(matches: ClassMatches) -> tuple[FloatArray64, FloatArray64]:
    """(S,) precision and (S,) recall of the detections of at least each confidence.

    As in YOLOv5, precision is 1 above the best detection, and 0 where a class has none at all.
    """
    counted = matches.counted[ALL_AREAS, IOU_50]
    hits = np.cumsum([0, *matches.true_positive[ALL_AREAS, IOU_50, counted]])
    taken = np.searchsorted(-matches.scores[counted], -CONFIDENCES, side="right")
    above = 1.0 if counted.any() else 0.0
    precision = np.where(taken > 0, hits[taken] / np.maximum(taken, 1), above)
    return precision, hits[taken] / max(int(matches.objects[ALL_AREAS].sum()), 1)


def _class_result(
    name: str, matches: ClassMatches, precision: FloatArray64, at_best: FloatArray64
) -> ClassResult:
    """The figures of one class.

    Args:
        name: of the class.
        matches: its detections.
        precision: (T, 101) at each recall.
        at_best: precision and recall at the confidence where the mean F1 is best.
    """
    objects = matches.objects[ALL_AREAS]
    return ClassResult(
        name=name,
        AP=_mean_of_known(precision),
        AP50=_mean_of_known(precision[IOU_50]),
        precision=float(at_best[0]),
        recall=float(at_best[1]),
        images=int(np.count_nonzero(objects)),
        instances=int(objects.sum()),
    )
