"""Anchors made for the boxes of a data set: k-means, then small random changes that help."""

from __future__ import annotations

import logging

import numpy as np

from utils.anchor_fit import AnchorFit, BoxSizes, closeness, fit_anchors

logger = logging.getLogger(__name__)
ENOUGH_RECALL = 0.98  # of the boxes must be within reach of an anchor
MIN_SIDE = 2.0  # pixels; smaller boxes teach nothing
CLUSTERINGS = 30  # the best of so many starts
CHANGES, CHANGE_PROBABILITY, CHANGE_SIZE, CHANGE_LIMITS = 1000, 0.9, 0.1, (0.3, 3.0)

Levels = tuple[tuple[float, ...], ...]


def check_anchors(
    levels: Levels, sizes: BoxSizes, threshold: float, *, seed: int, keep: bool = False
) -> Levels:
    """The anchors themselves where they fit the boxes, or better ones; says which, and how well.

    Args:
        levels: per level flat (w1, h1, w2, h2, ...) in pixels of the network input, finest first.
        sizes: (N, 2) width and height of the training boxes in the same pixels.
        threshold: `anchor_t` of the hyper-parameters.
        seed: of the search.
        keep: change nothing: the network's head has learnt boxes in units of these.
    """
    anchors = np.array(levels, np.float64).reshape(-1, 2)
    found = fit_anchors(sizes, anchors, threshold)
    logger.info("anchors: %s", _describe(found))
    if found.best_possible_recall >= ENOUGH_RECALL or len(sizes) == 0:
        return levels
    if keep:
        logger.info("anchors: kept, as the weights were trained with them")
        return levels
    if len(np.unique(sizes, axis=0)) < len(anchors):
        logger.warning("anchors: kept, there are too few different boxes to make better ones of")
        return levels
    better = search_anchors(sizes, len(anchors), threshold, seed=seed)
    fit = fit_anchors(sizes, better, threshold)
    if fit.best_possible_recall <= found.best_possible_recall:
        logger.info("anchors: kept, k-means found none that fit better")
        return levels
    per_level = better.reshape(len(levels), -1)
    logger.info(
        "anchors: replaced by %s: %s", per_level.round().astype(int).tolist(), _describe(fit)
    )
    return tuple(tuple(float(value) for value in level) for level in per_level)


def search_anchors(sizes: BoxSizes, count: int, threshold: float, *, seed: int) -> BoxSizes:
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
    centres, _ = kmeans(points / deviation, count, iter=CLUSTERINGS, rng=rng)
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
    by_area: BoxSizes = anchors[anchors.prod(1).argsort()]
    return by_area


def _quality(sizes: BoxSizes, anchors: BoxSizes, threshold: float) -> float:
    """Mean closeness of the boxes to their best anchor; those out of reach count nothing."""
    best = closeness(sizes, anchors).max(1)
    return float((best * (best > 1 / threshold)).mean())


def _describe(fit: AnchorFit) -> str:
    return (
        f"{fit.best_possible_recall:.4f} of all training boxes can be learned "
        f"({fit.unreachable} cannot), {fit.anchors_per_box:.2f} anchors per box"
    )
