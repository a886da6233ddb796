"""Average precision as COCO defines it: pycocotools is the evaluator on every data set."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from utils.errors import MissingPackageError
from utils.metrics.coco_format import ground_truth, result_rows
from utils.structures import Detections, ImageRecord

if TYPE_CHECKING:
    from utils.engine.distributed import Ranks

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


def evaluate_coco(
    records: Sequence[ImageRecord],
    detections: Mapping[int, Detections],
    class_names: Sequence[str],
    ranks: Ranks | None = None,
) -> CocoMetrics:
    """Evaluate detections against labels.

    Args:
        records: the images with their labels; crowd regions are ignored the COCO way.
        detections: per image id, boxes in original pixels.
        class_names: in class-id order.
        ranks: processes with the same arguments that evaluate some of the classes each; all get the
            result of one process.

    Raises:
        MissingPackageError: pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise MissingPackageError("AP needs pycocotools: pip install pycocotools") from None
    rows = result_rows(records, detections)
    if not len(rows):
        return _nothing_found(records, class_names)
    classes = list(range(len(class_names)))
    mine = classes if ranks is None else list(ranks.shard(classes))
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = COCO()
        truth.dataset = ground_truth(records, class_names)
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(rows), "bbox")
        part = _evaluate_classes(evaluator, records, mine) if mine else None
        parts = [part] if ranks is None else ranks.gather(part)
        whole = _EvaluatedClasses.joined([part for part in parts if part is not None])
        evaluator.eval = {"precision": whole.precision, "recall": whole.recall}
        evaluator.summarize()
    stats = [max(float(value), 0.0) for value in evaluator.stats]
    curves = _score_curves(whole, records, len(class_names))
    precision, recall = best_f1_point(curves)
    return CocoMetrics(
        **dict(zip(_STATS, stats, strict=False)),
        precision=precision,
        recall=recall,
        images=len(records),
        instances=sum(len(record.targets) for record in records),
        per_class=_per_class(whole.precision, records, class_names),
        curves=curves,
    )


@dataclass(frozen=True, slots=True)
class _EvaluatedClasses:
    """pycocotools' results of K classes.

    Attributes:
        precision: (IoU thresholds, recall points, K, areas, detection limits).
        recall: (IoU thresholds, K, areas, detection limits).
        precision_at: (K, CURVE_POINTS) precision at each confidence, IoU 0.50.
        recall_at: (K, CURVE_POINTS) recall, likewise.
        recall_points: (R,) of `precision`.
    """

    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    precision_at: npt.NDArray[np.float64]
    recall_at: npt.NDArray[np.float64]
    recall_points: npt.NDArray[np.float64]

    @classmethod
    def joined(cls, parts: Sequence[_EvaluatedClasses]) -> _EvaluatedClasses:
        """Several parts' classes, in order."""
        return cls(
            precision=np.concatenate([part.precision for part in parts], 2),
            recall=np.concatenate([part.recall for part in parts], 1),
            precision_at=np.concatenate([part.precision_at for part in parts]),
            recall_at=np.concatenate([part.recall_at for part in parts]),
            recall_points=parts[0].recall_points,
        )


def _evaluate_classes(
    evaluator: Any, records: Sequence[ImageRecord], class_ids: list[int]
) -> _EvaluatedClasses:
    """Let a COCOeval evaluate some classes."""
    evaluator.params.catIds = class_ids
    evaluator.evaluate()
    evaluator.accumulate()
    precision_at, recall_at = _precision_recall_at_scores(evaluator, records, class_ids)
    return _EvaluatedClasses(
        precision=evaluator.eval["precision"],
        recall=evaluator.eval["recall"],
        precision_at=precision_at,
        recall_at=recall_at,
        recall_points=np.asarray(evaluator.params.recThrs),
    )


def best_f1_point(curves: ScoreCurves) -> tuple[float, float]:
    """Mean precision and recall over the labelled classes, at the confidence of best mean F1."""
    if not curves.present.any():
        return 0.0, 0.0
    precision, recall = curves.precision[curves.present], curves.recall[curves.present]
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-16)
    best = int(f1.mean(0).argmax())
    return float(precision[:, best].mean()), float(recall[:, best].mean())


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


def _precision_recall_at_scores(
    evaluator: Any, records: Sequence[ImageRecord], class_ids: Sequence[int]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(K, CURVE_POINTS) precision and recall at each confidence, from the evaluator's matches."""
    confidence = np.linspace(0, 1, CURVE_POINTS)
    precision = np.zeros((len(class_ids), CURVE_POINTS))
    recall = np.zeros((len(class_ids), CURVE_POINTS))
    instances = _instances(records, max(class_ids) + 1)
    images_per_block = len(evaluator.params.imgIds)
    blocks = len(evaluator.params.areaRng) * images_per_block  # evalImgs runs class, area, image
    for place, class_id in enumerate(class_ids):
        start = place * blocks + _ALL_AREAS * images_per_block
        matched = [entry for entry in evaluator.evalImgs[start : start + images_per_block] if entry]
        scores, right = _matches(matched)
        order = np.argsort(-scores, kind="stable")
        hits = np.cumsum(right[order])
        taken = np.searchsorted(-scores[order], -confidence, side="right")  # score >= confidence
        hits_at = np.concatenate([[0], hits])[taken]
        precision[place] = np.where(taken > 0, hits_at / np.maximum(taken, 1), 1.0)
        recall[place] = hits_at / max(int(instances[class_id]), 1)
    return precision, recall


def _score_curves(
    evaluated: _EvaluatedClasses, records: Sequence[ImageRecord], num_classes: int
) -> ScoreCurves:
    curve = evaluated.precision[_IOU_50, :, :, _ALL_AREAS, _MAX_DETECTIONS]
    return ScoreCurves(
        confidence=np.linspace(0, 1, CURVE_POINTS),
        precision=evaluated.precision_at,
        recall=evaluated.recall_at,
        recall_points=evaluated.recall_points,
        precision_at_recall=np.clip(curve.T, 0, None),
        present=_instances(records, num_classes) > 0,
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
