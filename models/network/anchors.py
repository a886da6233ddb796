"""Anchors and the boxes of a data set: how well they fit, and better ones where they do not."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from utils.structures import SizeArray

logger = logging.getLogger(__name__)
ANCHOR_THRESHOLD = 4.0  # YOLOv5's anchor_t: largest factor between box and anchor side
ENOUGH_RECALL = 0.98  # of the boxes must be within reach of an anchor
MIN_SIDE = 2.0  # pixels; smaller boxes teach nothing
CLUSTERINGS = 30  # the best of so many starts
CHANGES, CHANGE_PROBABILITY, CHANGE_SIZE, CHANGE_LIMITS = 1000, 0.9, 0.1, (0.3, 3.0)

Levels = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class AnchorFit:
    """What anchors are to boxes.

    Attributes:
        best_possible_recall: share of boxes with at least one anchor within the threshold.
        anchors_per_box: mean number of anchors within it.
        boxes_per_anchor: how many boxes each anchor is the closest to.
        unreachable: how many boxes no anchor is close enough to.
    """

    best_possible_recall: float
    anchors_per_box: float
    boxes_per_anchor: tuple[int, ...]
    unreachable: int

    def as_text(self) -> str:
        """How many boxes can be learned, for the console."""
        missed = f" ({self.unreachable} cannot)" if self.unreachable else ""
        return (
            f"{self.best_possible_recall:.2%} of the boxes can be learned{missed}, "
            f"{self.anchors_per_box:.2f} anchors per box"
        )


def closeness(sizes: SizeArray, anchors: SizeArray) -> SizeArray:
    """(N, A): the smaller of the two sides' ratios, 1 where box and anchor are equal.

    Args:
        sizes: (N, 2) width and height of boxes, above zero.
        anchors: (A, 2) width and height of anchors.
    """
    ratio = sizes[:, None] / anchors[None]
    return np.minimum(ratio, 1 / ratio).min(2)  # type: ignore[no-any-return]


def fit_anchors(
    sizes: SizeArray, anchors: SizeArray, threshold: float = ANCHOR_THRESHOLD
) -> AnchorFit:
    """Compare boxes with anchors the way training assigns them.

    An anchor is close enough to a box if neither its width nor its height is more than `threshold`
    times the box's, or less than a `threshold`-th of it.

    Args:
        sizes: (N, 2) width and height of boxes in pixels of the network input, above zero.
        anchors: (A, 2) width and height of anchors.
        threshold: `anchor_t` of the hyper-parameters.
    """
    if len(sizes) == 0:
        return AnchorFit(1.0, 0.0, (0,) * len(anchors), 0)
    how_close = closeness(sizes, anchors)
    reachable = how_close > 1 / threshold
    closest = np.bincount(how_close.argmax(1), minlength=len(anchors))
    missed = int((~reachable.any(1)).sum())
    return AnchorFit(
        best_possible_recall=1 - missed / len(sizes),
        anchors_per_box=float(reachable.sum(1).mean()),
        boxes_per_anchor=tuple(closest.tolist()),
        unreachable=missed,
    )


def check_anchors(
    levels: Levels,
    sizes: SizeArray,
    threshold: float,
    *,
    seed: int,
    keep: bool = False,
    from_data: bool = False,
) -> Levels:
    """The anchors themselves where they fit the boxes, or better ones; logs which, and how well.

    Args:
        levels: per level flat (w1, h1, w2, h2, ...) in pixels of the network input, finest first.
        sizes: (N, 2) width and height of the training boxes in the same pixels.
        threshold: `anchor_t` of the hyper-parameters.
        seed: of the search.
        keep: change nothing: the network's head has learnt boxes in units of these.
        from_data: these only stand in for better ones, which are searched for in any case.
    """
    anchors = np.array(levels, np.float64).reshape(-1, 2)
    found = fit_anchors(sizes, anchors, threshold)
    logger.info("Anchors: %s", found.as_text())
    fits = found.best_possible_recall >= ENOUGH_RECALL and not from_data
    if fits or len(sizes) == 0:
        return levels
    if keep:
        logger.info("Anchors: kept, as the weights were trained with them")
        return levels
    if len(np.unique(sizes, axis=0)) < len(anchors):
        logger.warning("Anchors: kept, there are too few different boxes to make better ones of")
        return levels
    better = search_anchors(sizes, len(anchors), threshold, seed=seed)
    fit = fit_anchors(sizes, better, threshold)
    if fit.best_possible_recall <= found.best_possible_recall and not from_data:
        logger.info("Anchors: kept, k-means found none that fit better")
        return levels
    per_level = better.reshape(len(levels), -1)
    logger.info(
        "Anchors: replaced by %s: %s", per_level.round().astype(int).tolist(), fit.as_text()
    )
    return tuple(tuple(float(value) for value in level) for level in per_level)


def search_anchors(sizes: SizeArray, count: int, threshold: float, *, seed: int) -> SizeArray:
    """`count` anchors for boxes of these sizes, smallest area first.

    K-means in units of the standard deviation (so that both sides count alike), then a thousand
    random changes, each kept if the boxes' mean closeness to their best anchor grows.

    Args:
        sizes: (N, 2) width and height, at least `count` different ones.
        count: how many.
        threshold: `anchor_t` of the hyper-parameters.
        seed: of the random numbers.
    """
    from scipy.cluster.vq import kmeans  # here: only data sets with unusual boxes need it

    rng = np.random.default_rng(seed)
    large = sizes[(sizes >= MIN_SIDE).any(1)]
    points = large if len(np.unique(large, axis=0)) >= count else sizes
    deviation = points.std(0).clip(min=1e-9)
    scaled = points / deviation
    # Its own choice of starts is seeded by `seed=` in older versions of scipy, `rng=` in newer.
    starts = (rng.choice(scaled, count, replace=False) for _ in range(CLUSTERINGS))
    centres, _ = min((kmeans(scaled, start) for start in starts), key=lambda found: found[1])
    missing = count - len(centres)  # k-means drops centres that no point is next to
    anchors = np.concatenate([centres * deviation, rng.choice(points, missing, replace=False)])
    quality = _quality(points, anchors, threshold)
    for _ in range(CHANGES):
        chosen = rng.random(anchors.shape) < CHANGE_PROBABILITY
        factors = 1 + chosen * rng.random() * rng.normal(0, CHANGE_SIZE, anchors.shape)
        changed = (anchors * factors.clip(*CHANGE_LIMITS)).clip(min=MIN_SIDE)
        new_quality = _quality(points, changed, threshold)
        if new_quality > quality:
            anchors, quality = changed, new_quality
    by_area: SizeArray = anchors[anchors.prod(1).argsort()]
    return by_area


def _quality(sizes: SizeArray, anchors: SizeArray, threshold: float) -> float:
    """Mean closeness of the boxes to their best anchor; those out of reach count nothing."""
    best = closeness(sizes, anchors).max(1)
    return float((best * (best > 1 / threshold)).mean())
