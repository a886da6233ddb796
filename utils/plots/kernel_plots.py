"""Images of 3x3 kernels: magnitude per position, and what each branch adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from utils.plots.figure import (
    HEAT_COLORS,
    INK,
    line_color,
    make_figure,
    save_figure,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Grid = npt.NDArray[np.float64]


def plot_skeletons(grids: Mapping[str, Grid], out: Path) -> None:
    """One heat map per title: (3, 3) magnitudes as fractions of the largest, written into them."""
    figure, axes = make_figure((3.4 * len(grids), 3.6), 1, len(grids))
    for axis, (title, grid) in zip(axes[0], grids.items(), strict=True):
        _draw_grid(axis, grid, (), title, decimals=3)
    save_figure(figure, out)


def plot_contributions(
    layers: Sequence[str], parts: Sequence[Mapping[str, float]], merged: Sequence[float], out: Path
) -> None:
    """Bars per layer: what each branch adds, and a mark where their sum, the merged kernel, is.

    Args:
        layers: names.
        parts: per layer, root mean square of each branch's part.
        merged: per layer, root mean square of the merged kernel.
        out: the image to write.
    """
    names = list(dict.fromkeys(name for layer in parts for name in layer))
    figure, axes = make_figure((max(7.0, 0.62 * len(layers) + 2), 4.5), 1, 1)
    axis, positions = axes[0, 0], np.arange(len(layers))
    width = 0.85 / max(len(names), 1)
    for number, name in enumerate(names):
        values = [layer.get(name, 0.0) for layer in parts]
        offset = (number - (len(names) - 1) / 2) * width
        axis.bar(positions + offset, values, width, label=name, color=line_color(number))
    axis.plot(positions, merged, "_", color=INK, markersize=16, markeredgewidth=1.6, label="merged")
    style_axes(axis, "what each branch adds, after conversion one kernel", "", "root mean square")
    axis.set_xticks(positions, layers, rotation=60, ha="right")
    axis.legend(fontsize=8, ncols=2)
    save_figure(figure, out)


def plot_similarity(names: Sequence[str], grid: Grid, out: Path) -> None:
    """|cosine| between what two branches add, mean over layers, as a matrix."""
    side = 1.6 + 0.75 * len(names)
    figure, axes = make_figure((side, side), 1, 1)
    _draw_grid(axes[0, 0], grid, names, "|cosine| of two branches", decimals=2)
    axes[0, 0].tick_params(axis="x", labelrotation=45)
    save_figure(figure, out)


def _draw_grid(axis: Axes, grid: Grid, names: Sequence[str], title: str, *, decimals: int) -> None:
    axis.imshow(grid, cmap=HEAT_COLORS, vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(grid):
        if np.isfinite(value):
            color = "white" if value > 0.6 else INK
            text = f"{value:.{decimals}f}"
            axis.text(column, row, text, ha="center", va="center", color=color, fontsize=9)
    style_axes(axis, title, "", "")
    axis.grid(visible=False)
    axis.set_xticks(range(len(names)), names)
    axis.set_yticks(range(len(names)), names)
