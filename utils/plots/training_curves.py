"""results.png: losses and quality over the epochs, from results.csv.

The file counts epochs from 0, as YOLOv5's does; the image from 1, as the console does.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from utils.engine.training_state import fitness
from utils.errors import ConfigError
from utils.plots.figure import ACCENT, MARK, make_figure, save_figure, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EPOCH = "epoch"
AP50, AP = "metrics/mAP_0.5", "metrics/mAP_0.5:0.95"
PANELS = (  # column of results.csv, title; two rows of five
    ("train/box_loss", "train: box loss"),
    ("train/obj_loss", "train: objectness loss"),
    ("train/cls_loss", "train: class loss"),
    ("metrics/precision", "precision"),
    ("metrics/recall", "recall"),
    ("val/box_loss", "val: box loss"),
    ("val/obj_loss", "val: objectness loss"),
    ("val/cls_loss", "val: class loss"),
    (AP50, "mAP50"),
    (AP, "mAP50-95"),
)
Columns = dict[str, npt.NDArray[np.float64]]


def plot_results(csv_path: Path, out_png: Path) -> None:
    """Ten small curves with the best epoch marked.

    Args:
        csv_path: results.csv with YOLOv5's columns; nan or empty where an epoch was not validated.
        out_png: the image to write.

    Raises:
        ConfigError: the file lacks a column or holds something that is no number.
    """
    columns = read_results(csv_path)
    epochs = columns[EPOCH] + 1
    best = best_row(columns)
    figure, axes = make_figure((15, 6), 2, 5)
    for panel, (column, title) in zip(axes.flat, PANELS, strict=True):
        style_axes(panel, title, "epoch", "")
        _draw_curve(panel, epochs, columns[column], best)
    if best is not None:
        figure.suptitle(
            f"best epoch {epochs[best]:.0f}: mAP50 {columns[AP50][best]:.4f}, "
            f"mAP50-95 {columns[AP][best]:.4f}",
            fontsize=11,
            color=MARK,
        )
    save_figure(figure, out_png)


def read_results(csv_path: Path) -> Columns:
    """Column name -> its values, one per epoch; nan where a cell is empty.

    Raises:
        ConfigError: the file lacks a column or holds something that is no number.
    """
    with csv_path.open(newline="", encoding="utf-8") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    names = rows[0] if rows else []
    for name in (EPOCH, *(column for column, _ in PANELS)):
        if name not in names:
            raise ConfigError(f"{csv_path}: column {name!r} is missing; found {', '.join(names)}")
    values = [
        [_number(csv_path, line, cell) for cell in row] for line, row in enumerate(rows[1:], 2)
    ]
    # A run that was killed while writing leaves a short last row.
    table = np.array([row for row in values if len(row) == len(names)]).reshape(-1, len(names))
    return {name: table[:, index] for index, name in enumerate(names)}


def best_row(columns: Columns) -> int | None:
    """Row of the highest fitness, by which best.pt is chosen; None without any."""
    of_epochs = fitness(columns[AP], columns[AP50])
    return None if np.isnan(of_epochs).all() else int(np.nanargmax(of_epochs))


def _number(csv_path: Path, line: int, cell: str) -> float:
    try:
        return float(cell or "nan")
    except ValueError:
        raise ConfigError(f"{csv_path}:{line}: {cell!r} is not a number") from None


def _draw_curve(
    axes: Axes,
    epochs: npt.NDArray[np.float64],
    values: npt.NDArray[np.float64],
    best: int | None,
) -> None:
    known = np.isfinite(values)  # a line through what was measured, not broken at skipped epochs
    dots = "o" if known.sum() <= 50 else None
    axes.plot(epochs[known], values[known], color=ACCENT, linewidth=1.6, marker=dots, markersize=3)
    if best is not None and known[best]:
        early = epochs[best] < epochs[[0, -1]].mean()  # there its number has room on the right
        axes.axvline(epochs[best], color=MARK, linewidth=0.8, linestyle=":")
        axes.plot(epochs[best], values[best], color=MARK, marker="o", markersize=5)
        axes.annotate(
            f"{values[best]:.3g}",
            (epochs[best], values[best]),
            textcoords="offset points",
            xytext=(4 if early else -4, 6),
            horizontalalignment="left" if early else "right",
            fontsize=8,
            color=MARK,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1},
        )
    _set_limits(axes, epochs, values[known])


def _set_limits(
    axes: Axes, epochs: npt.NDArray[np.float64], known: npt.NDArray[np.float64]
) -> None:
    """Whole epochs, the same in all panels; one value (or none) is seen against zero."""
    from matplotlib.ticker import MaxNLocator  # see utils.plots.figure

    first, last = (epochs[0], epochs[-1]) if len(epochs) else (1, 1)
    axes.set_xlim(first - 0.5, last + max(0.04 * (last - first), 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    if len(known) and np.ptp(known) > 0:
        axes.margins(y=0.15)
    else:
        axes.set_ylim(0, 1.5 * known.max(initial=0) or 1)
