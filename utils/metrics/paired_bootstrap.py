"""How sure a difference in AP is: a paired bootstrap over the images.

Two detectors are evaluated on the same images. Images are drawn with replacement as often as there
are, the same draw for both, and the difference of their COCO APs is computed for each draw. The
middle `coverage` of those differences is the percentile interval (Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993, section 13.3). What makes a set of images hard or easy hits
both detectors alike and cancels, so the interval is far narrower than that of either AP.

Shapes: P images, D detections of one class, T IoU thresholds, R draws.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from utils.errors import MissingPackageError
from utils.metrics.coco_format import ground_truth, result_rows
from utils.structures import Detections, ImageRecord, IntArray

FloatArray64 = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_RECALLS = 101  # COCO's: 0, 0.01, ..., 1
_MAX_DETECTIONS = 100  # per image and class
_ALL_AREAS = (0.0, 1e10)  # square pixels
_CHUNK = 1_000_000  # numbers computed at once: stays in the processor's cache, more or less


@dataclass(frozen=True, slots=True)
class ClassMatches:
    """What the evaluator found of one class, all images together, best score first.

    Attributes:
        images: (D,) place of each detection's image.
        right: (T, D) whether it matches a labelled object that counts.
        counted: (T, D) whether it counts, right or wrong; False on crowds.
        objects: (P,) labelled objects that count.
    """

    images: IntArray
    right: BoolArray
    counted: BoolArray
    objects: IntArray


@dataclass(frozen=True, slots=True)
class ImageMatches:
    """A detector's matches on a set of images.

    Attributes:
        image_ids: P numbers of the images, ascending.
        classes: in class-id order.
    """

    image_ids: tuple[int, ...]
    classes: tuple[ClassMatches, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference of two APs, and where it lies with the coverage asked for."""

    low: float
    high: float
    difference: float


def match_images(
    records: Sequence[ImageRecord],
    detections: Mapping[int, Detections],
    class_names: Sequence[str],
) -> ImageMatches:
    """Match detections with labels as COCO does (area all, at most 100 per image and class).

    Args:
        records: the images with their labels; crowd regions are ignored the COCO way.
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
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth, found = COCO(), COCO()
        truth.dataset = ground_truth(records, class_names)
        found.dataset = {**truth.dataset, "annotations": _annotations(records, detections)}
        truth.createIndex()
        found.createIndex()
        evaluator = COCOeval(truth, found, "bbox")
        evaluator.params.maxDets = [_MAX_DETECTIONS]
        evaluator.params.areaRng = [list(_ALL_AREAS)]
        evaluator.evaluate()
    image_ids = tuple(int(image_id) for image_id in evaluator.params.imgIds)
    images = max(1, len(image_ids))
    entries = evaluator.evalImgs  # by class, then image; None where there is nothing
    rows = (entries[i : i + images] for i in range(0, len(entries), images))
    thresholds = len(evaluator.params.iouThrs)
    return ImageMatches(image_ids, tuple(_class_matches(row, thresholds) for row in rows))


def ap_difference_interval(
    first: ImageMatches,
    second: ImageMatches,
    *,
    resamples: int = 1000,
    seed: int = 0,
    coverage: float = 0.95,
) -> Interval:
    """How much higher the AP of `second` is than that of `first`, and how sure that is.

    Args:
        first: a detector, evaluated.
        second: another one, evaluated on the same images.
        resamples: how many draws.
        seed: of the draws; the same seed gives the same interval.
        coverage: the share of the draws' differences inside the interval.

    Returns:
        AP is COCO's over IoU 0.50 to 0.95, 0 to 1; `difference` is that on the images themselves.
        An interval wholly above 0: `second` is better on images like these.

    Raises:
        ValueError: they were not evaluated on the same labels, or a number makes no sense.
    """
    if not _same_labels(first, second):
        raise ValueError("both detectors have to be evaluated on the same images and labels")
    if not first.image_ids or resamples < 1 or not 0 < coverage < 1:
        raise ValueError(
            f"{len(first.image_ids)} images, resamples {resamples} and coverage {coverage}: "
            "expected at least 1, at least 1, and between 0 and 1"
        )
    images = len(first.image_ids)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(images, np.full(images, 1 / images), resamples)
    counts = np.concatenate((np.ones((1, images), np.int64), draws))
    differences = average_precisions(second, counts) - average_precisions(first, counts)
    tail = (1 - coverage) / 2
    low, high = np.quantile(differences[1:], (tail, 1 - tail)).tolist()
    return Interval(low, high, float(differences[0]))


def average_precisions(evaluated: ImageMatches, counts: IntArray) -> FloatArray64:
    """COCO's AP on other mixtures of the same images.

    Args:
        evaluated: a detector.
        counts: (R, P) how often each image is taken.

    Returns:
        (R,) mean over the classes that have objects in the mixture; 0 where no class has, as
        `evaluate_coco` has it.
    """
    totals, present = np.zeros(len(counts)), np.zeros(len(counts), np.int64)
    for matches in evaluated.classes:
        objects = counts @ matches.objects
        present += objects > 0
        rows = max(1, _CHUNK // max(1, len(matches.images)))
        for start in range(0, len(counts), rows):
            part = slice(start, start + rows)
            totals[part] += _class_AP(matches, counts[part], objects[part])
    return totals / np.maximum(present, 1)


def _class_AP(matches: ClassMatches, counts: IntArray, objects: IntArray) -> FloatArray64:
    """(R,) AP of one class, mean over the IoU thresholds; 0 where it has no objects.

    An image that was drawn w times gives w equal detections, one after the other in the order of
    scores. Of w right ones the last has the highest precision, of w wrong ones none adds recall, so
    the curve's upper hull is that of one detection of weight w.
    """
    weights = counts[:, matches.images]
    AP = np.zeros(len(counts))
    for right, counted in zip(matches.right, matches.counted, strict=True):
        (places,) = np.nonzero(right)
        if len(places):
            end = places[-1] + 1  # nothing behind the last right one changes the hull
            hits = np.cumsum(weights[:, places], 1)
            found = np.cumsum(weights[:, :end] * counted[:end], 1)[:, places]
            AP += _hull_mean(hits, found, objects)
    return AP / len(matches.right)


def _hull_mean(hits: IntArray, found: IntArray, objects: IntArray) -> FloatArray64:
    """(R,) mean of the precision's upper hull at COCO's recalls.

    Args:
        hits: (R, K) right detections up to each of K right ones, best first.
        found: (R, K) all that count up to there.
        objects: (R,) to be found.
    """
    recalls = np.linspace(0, 1, _RECALLS)
    recall = hits / np.maximum(objects, 1)[:, None]
    precision = hits / (found + np.spacing(1))  # pycocotools', to the last bit
    hull = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    reached = np.searchsorted(recalls, recall, side="right")  # how many of COCO's recalls
    steps = np.diff(reached, axis=1, prepend=0)
    mean: FloatArray64 = (hull * steps).sum(1) / _RECALLS
    return mean


def _class_matches(entries: Sequence[Mapping[str, Any] | None], thresholds: int) -> ClassMatches:
    """One class from pycocotools' entries, one per image."""
    scores, images = [np.zeros(0)], [np.zeros(0, np.int64)]
    matched, ignored = [np.zeros((thresholds, 0), bool)], [np.zeros((thresholds, 0), bool)]
    objects = np.zeros(len(entries), np.int64)
    for place, entry in enumerate(entries):
        if entry is None:
            continue
        scores.append(np.asarray(entry["dtScores"], np.float64))
        images.append(np.full(len(entry["dtScores"]), place))
        matched.append(np.asarray(entry["dtMatches"]) > 0)
        ignored.append(np.asarray(entry["dtIgnore"], bool))
        objects[place] = np.count_nonzero(np.asarray(entry["gtIgnore"]) == 0)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    counted = ~np.concatenate(ignored, 1)[:, order]
    right = np.concatenate(matched, 1)[:, order] & counted
    return ClassMatches(np.concatenate(images)[order], right, counted, objects)


def _annotations(
    records: Sequence[ImageRecord], detections: Mapping[int, Detections]
) -> list[dict[str, Any]]:
    """Detections as COCO's annotations; unlike `loadRes`, for none at all too."""
    rows = result_rows(records, detections).tolist()
    return [
        {
            "id": number,  # from 1: pycocotools takes 0 for "not matched"
            "image_id": int(image_id),
            "category_id": int(class_id),
            "bbox": [x, y, width, height],
            "area": width * height,
            "score": score,
        }
        for number, (image_id, x, y, width, height, score, class_id) in enumerate(rows, 1)
    ]


def _same_labels(first: ImageMatches, second: ImageMatches) -> bool:
    """Whether images and numbers of objects are the same."""
    if first.image_ids != second.image_ids or len(first.classes) != len(second.classes):
        return False
    pairs = zip(first.classes, second.classes, strict=True)
    return all(np.array_equal(a.objects, b.objects) for a, b in pairs)
