"""confusion_matrix.png: which class is taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from utils.plots.figure import HEAT_COLORS, INK, make_figure, printable, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_NUMBERED_CLASSES = 30


def plot_confusion_matrix(
    matrix: npt.NDArray[Any], class_names: Sequence[str], out_png: Path
) -> None:
    """Share of each true class (column) that was called each class (row).

    Args:
        matrix: (C + 1, C + 1) counts, [predicted, true], background last.
        class_names: the C names.
        out_png: the image to write.
    """
    totals = matrix.sum(axis=0, keepdims=True)
    shares = matrix / np.maximum(totals, 1)
    shown = np.where(totals > 0, shares, np.nan)  # a class that never occurs stays white
    side = min(max(len(matrix) * 0.42, 5.0), 20.0)
    figure, grid = make_figure((side + 1.5, side), 1, 1)
    axes: Axes = grid[0, 0]
    image = axes.imshow(shown, cmap=HEAT_COLORS, vmin=0, vmax=1, aspect="equal")
    _name_ticks(axes, [*printable(class_names), "background"])
    if len(matrix) <= MAX_NUMBERED_CLASSES:
        _write_shares(axes, shares)
    axes.set_title("confusion matrix, each column sums to 1", fontsize=11, color=INK)
    figure.colorbar(image, ax=axes, shrink=0.7)
    save_figure(figure, out_png)


def _name_ticks(axes: Axes, names: Sequence[str]) -> None:
    size = 9 if len(names) <= MAX_NUMBERED_CLASSES else 7
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.set_xlabel("true", color=INK)
    axes.set_ylabel("predicted", color=INK)


def _write_shares(axes: Axes, shares: npt.NDArray[np.float64]) -> None:
    for row, column in np.argwhere(shares >= 0.005):
        share = shares[row, column]
        axes.text(
            column,
            row,
            f"{share:.2f}",
            horizontalalignment="center",
            verticalalignment="center",
            fontsize=8,
            color="white" if share > 0.55 else INK,
        )
