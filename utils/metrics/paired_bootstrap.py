"""How sure a difference in AP is: a paired bootstrap over the images.

Two detectors are evaluated on the same images. Images are drawn with replacement as often as there
are, the same draw for both, and the difference of their COCO APs is computed for each draw. The
middle `coverage` of those differences is the percentile interval (Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993, section 13.3). What makes a set of images hard or easy hits
both detectors alike and cancels, so the interval is far narrower than that of either AP.

Shapes: P images, D detections of one class, T IoU thresholds, R draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from utils.metrics.coco import RECALL_POINTS
from utils.metrics.matches import ALL_AREAS, ClassMatches, ImageMatches
from utils.metrics.overlaps import FloatArray64
from utils.structures import IntArray

_CHUNK = 1_000_000  # numbers computed at once: stays in the processor's cache, more or less


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference of two APs, and the ends of its confidence interval."""

    low: float
    high: float
    difference: float


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
    counts = image_draws(len(first.image_ids), resamples, seed)
    differences = average_precisions(second, counts) - average_precisions(first, counts)
    tail = (1 - coverage) / 2
    low, high = np.quantile(differences[1:], (tail, 1 - tail)).tolist()
    return Interval(low, high, float(differences[0]))


def image_draws(images: int, resamples: int, seed: int = 0) -> IntArray:
    """How often each image is taken in each of the draws.

    Returns:
        (1 + resamples, images) each image once, then what was drawn with replacement; the same for
        the same arguments.
    """
    draws = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), resamples)
    return np.concatenate((np.ones((1, images), np.int64), draws))


def average_precisions(evaluated: ImageMatches, counts: IntArray) -> FloatArray64:
    """COCO's AP on other mixtures of the same images.

    Args:
        evaluated: a detector.
        counts: (R, P) how often each image is taken.

    Returns:
        (R,) mean over the classes that have objects in the mixture; 0 where no class has.
    """
    totals, present = np.zeros(len(counts)), np.zeros(len(counts), np.int64)
    for matches in evaluated.classes:
        objects = counts @ matches.objects[ALL_AREAS]
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
    true_positive, counted = matches.true_positive[ALL_AREAS], matches.counted[ALL_AREAS]
    for right, is_counted in zip(true_positive, counted, strict=True):
        (indices,) = np.nonzero(right)
        if len(indices):
            end = indices[-1] + 1  # nothing behind the last right one changes the hull
            hits = np.cumsum(weights[:, indices], 1)
            found = np.cumsum(weights[:, :end] * is_counted[:end], 1)[:, indices]
            AP += _hull_mean(hits, found, objects)
    return AP / len(true_positive)


def _hull_mean(hits: IntArray, found: IntArray, objects: IntArray) -> FloatArray64:
    """(R,) mean of the precision's upper hull at COCO's recalls.

    Args:
        hits: (R, K) right detections up to each of K right ones, best first.
        found: (R, K) all that count up to there.
        objects: (R,) to be found.
    """
    recall = hits / np.maximum(objects, 1)[:, None]
    precision = hits / (found + np.spacing(1))  # pycocotools', to the last bit
    hull = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    reached = np.searchsorted(RECALL_POINTS, recall, side="right")  # how many of COCO's recalls
    steps = np.diff(reached, axis=1, prepend=0)
    mean: FloatArray64 = (hull * steps).sum(1) / len(RECALL_POINTS)
    return mean


def _same_labels(first: ImageMatches, second: ImageMatches) -> bool:
    """Whether images and numbers of objects agree."""
    if first.image_ids != second.image_ids or len(first.classes) != len(second.classes):
        return False
    pairs = zip(first.classes, second.classes, strict=True)
    return all(np.array_equal(a.objects, b.objects) for a, b in pairs)
