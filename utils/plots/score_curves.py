"""P_curve.png, R_curve.png, F1_curve.png and PR_curve.png: quality against the score threshold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from utils.plots.figure import (
    ACCENT,
    QUIET,
    line_color,
    make_figure,
    printable_name,
    save_figure,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.floating[Any]]
MAX_LEGEND_CLASSES = 20


def plot_score_curves(
    confidence: Floats,
    precision: Floats,
    recall: Floats,
    class_names: Mapping[int, str],
    out_folder: Path,
) -> None:
    """Precision, recall and F1 of each class at each score threshold.

    Args:
        confidence: (K,) score thresholds, rising.
        precision: (C, K); a class without objects may hold nan and is skipped.
        recall: (C, K), with nan in the same rows.
        class_names: class id and name of each of the C rows.
        out_folder: gets P_curve.png, R_curve.png and F1_curve.png.
    """
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float32).tiny)
    for name, values, y_label in (
        ("P_curve.png", precision, "precision"),
        ("R_curve.png", recall, "recall"),
        ("F1_curve.png", f1, "F1"),
    ):
        mean = _mean_of_classes(values)
        best = int(mean.argmax())
        summary = f"all classes: {mean[best]:.2f} at {confidence[best]:.3f}"
        _plot_per_class(
            confidence,
            values,
            _labels(class_names),
            summary,
            (f"{y_label} against score threshold", "score threshold", y_label),
            out_folder / name,
        )


def plot_pr_curve(
    recall_points: Floats,
    precision_at_recall: Floats,
    ap50: Floats,
    class_names: Mapping[int, str],
    out_png: Path,
) -> None:
    """Precision against recall at IoU 0.5.

    Args:
        recall_points: (R,) rising from 0 to 1.
        precision_at_recall: (C, R); a class without objects may hold nan and is skipped.
        ap50: (C,) AP at IoU 0.5, for the legend.
        class_names: class id and name of each of the C rows.
        out_png: the image to write.
    """
    known = ap50[np.isfinite(ap50)]
    mean_ap50 = float(known.mean()) if len(known) else 0.0
    labels = {
        class_id: f"{label} {value:.3f}"
        for (class_id, label), value in zip(_labels(class_names).items(), ap50, strict=True)
    }
    _plot_per_class(
        recall_points,
        precision_at_recall,
        labels,
        f"all classes: mAP50 {mean_ap50:.3f}",
        ("precision against recall", "recall", "precision"),
        out_png,
    )


def _labels(class_names: Mapping[int, str]) -> dict[int, str]:
    return {class_id: printable_name(class_id, name) for class_id, name in class_names.items()}


def _mean_of_classes(values: Floats) -> Floats:
    known = values[np.isfinite(values).all(axis=1)]
    return known.mean(axis=0) if len(known) else np.zeros(values.shape[1])


def _plot_per_class(
    x: Floats,
    values: Floats,
    class_labels: Mapping[int, str],
    mean_label: str,
    titles: tuple[str, str, str],
    out_png: Path,
) -> None:
    """One line per class and a bold mean; above 20 classes the lines are grey and unnamed.

    `class_labels` have the class ids of the rows; `titles` are those of the figure, x and y.
    """
    figure, grid = make_figure((9, 6), 1, 1)
    axes: Axes = grid[0, 0]
    many = len(class_labels) > MAX_LEGEND_CLASSES
    for (class_id, label), row in zip(class_labels.items(), values, strict=True):
        if np.isfinite(row).all():
            color, width = (QUIET, 0.6) if many else (line_color(class_id), 1.2)
            # A leading underscore keeps a line out of the legend; a class may be named with one.
            axes.plot(x, row, color=color, linewidth=width, label="_" if many else f" {label}")
    mean_color = ACCENT if many else "black"
    axes.plot(x, _mean_of_classes(values), color=mean_color, linewidth=3, label=mean_label)
    style_axes(axes, *titles)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    if many:
        figure.legend(loc="outside lower center", fontsize=9, frameon=False)
    else:
        figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    save_figure(figure, out_png)
