"""How well a set of anchors fits the boxes of a data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BoxSizes = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AnchorFit:
    """How well anchors match boxes.

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


def closeness(sizes: BoxSizes, anchors: BoxSizes) -> BoxSizes:
    """(N, A) the smaller of the width and height ratios, 1 where box and anchor are equal.

    Args:
        sizes: (N, 2) width and height of boxes, above zero.
        anchors: (A, 2) width and height of anchors, in the same unit.
    """
    ratio = sizes[:, None] / anchors[None]
    return np.minimum(ratio, 1 / ratio).min(2)  # type: ignore[no-any-return]


def fit_anchors(sizes: BoxSizes, anchors: BoxSizes, threshold: float) -> AnchorFit:
    """Compare boxes with anchors by the rule that training assigns them with.

    An anchor is close enough to a box if neither its width nor its height is more than `threshold`
    times the box's, or less than a `threshold`-th of it.

    Args:
        sizes: (N, 2) width and height of boxes in pixels of the network input, above zero.
        anchors: (A, 2) width and height of anchors, in the same unit.
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
