"""confusion_matrix.png: which class is taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from utils.metrics.matches import IOU_THRESHOLD, SCORE_THRESHOLD
from utils.plots.figure import (
    HEAT_COLORS,
    INK,
    POINTS_PER_INCH,
    make_figure,
    printable,
    save_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_SHARED_CLASSES = 30  # with more there is room for counts only
MAX_COUNTED_CLASSES = 100  # with more the colors have to do


def plot_confusion_matrix(
    matrix: npt.NDArray[Any],
    class_names: Sequence[str],
    out_png: Path,
    *,
    score_threshold: float = SCORE_THRESHOLD,
) -> None:
    """How many objects of each true class (column) were called each class (row).

    Args:
        matrix: (C + 1, C + 1) counts, [predicted, true], background last.
        class_names: the C names.
        out_png: the image to write.
        score_threshold: the lowest score of a detection that was counted.
    """
    side = min(max(len(matrix) * 0.5, 5.0), 24.0)
    figure, grid = make_figure((side + 1.5, side), 1, 1)
    axes: Axes = grid[0, 0]
    shares = cell_shares(matrix)
    # As polygons: `imshow` would color every pixel by itself, which takes far longer.
    edges = np.arange(len(matrix) + 1) - 0.5
    image = axes.pcolormesh(edges, edges, shares, cmap=HEAT_COLORS, vmin=0, vmax=1)
    axes.set(aspect="equal", ylim=(edges[-1], edges[0]))
    _name_ticks(axes, [*printable(class_names), "background"])
    if len(class_names) <= MAX_COUNTED_CLASSES:
        _write_counts(axes, matrix, shares, cell_points=side * POINTS_PER_INCH / len(matrix) * 0.75)
    figure.suptitle(
        f"detections with a score of at least {score_threshold:g}, IoU above {IOU_THRESHOLD:g}\n"
        "shares (colors): of the true class's objects; right column: of the row's detections",
        fontsize=9,
        color=INK,
    )
    figure.colorbar(image, ax=axes, shrink=0.7)
    save_figure(figure, out_png)


def cell_shares(matrix: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """What each cell is a share of: the objects of its true class, found as some class or missed.

    Detections on background are no share of any objects. Theirs is of all detections of their
    class, so that it is what its precision lacks.

    Args:
        matrix: (C + 1, C + 1) counts, [predicted, true], background last.

    Returns:
        (C + 1, C + 1); nan where there is nothing to be a share of.
    """
    wholes = np.repeat(matrix.sum(axis=0, keepdims=True, dtype=np.float64), len(matrix), axis=0)
    wholes[:-1, -1] = matrix[:-1].sum(axis=1)
    wholes[-1, -1] = 0  # background that was left alone is not counted
    wholes[wholes == 0] = np.nan
    shares: npt.NDArray[np.float64] = matrix / wholes
    return shares


def _name_ticks(axes: Axes, names: Sequence[str]) -> None:
    size = 9 if len(names) <= MAX_SHARED_CLASSES else 7
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.set_xlabel("true", color=INK)
    axes.set_ylabel("predicted", color=INK)


def _write_counts(
    axes: Axes,
    matrix: npt.NDArray[Any],
    shares: npt.NDArray[np.float64],
    cell_points: float,
) -> None:
    """Counts, with room also their shares, as large as the longest fits its cell (at most 9)."""
    with_shares = len(matrix) <= MAX_SHARED_CLASSES + 1
    longest = max(len(str(matrix.max())), len("0.00") if with_shares else 1)
    for row, column in np.argwhere(matrix > 0):
        share = shares[row, column]
        axes.text(
            column,
            row,
            f"{matrix[row, column]}\n{share:.2f}" if with_shares else f"{matrix[row, column]}",
            horizontalalignment="center",
            verticalalignment="center",
            fontsize=min(cell_points / (0.64 * longest), 9),
            color="white" if share > 0.55 else INK,
            in_layout=False,  # within its cell: no margin depends on it
        )
