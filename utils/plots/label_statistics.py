"""labels.jpg: what the labels of a data set look like, before training on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from utils.boxes import cxcywh_to_xyxy
from utils.plots.figure import (
    ACCENT,
    HEAT_COLORS,
    line_color,
    make_figure,
    printable_name,
    save_figure,
    style_axes,
    tick_step,
)
from utils.structures import FloatArray, IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_OUTLINES = 1000
HEAT_BINS = 50
MAX_NAMED_CLASSES = 30


def plot_labels(
    class_ids: IntArray, boxes_norm: FloatArray, class_names: Sequence[str], out_jpg: Path
) -> None:
    """Four panels: objects per class, box shapes, where centres lie, widths against heights.

    Args:
        class_ids: (N,) class of each object.
        boxes_norm: (N, 4) cxcywh as fractions of the image.
        class_names: one name per class.
        out_jpg: the image to write.
    """
    figure, axes = make_figure((11, 10), 2, 2)
    _draw_class_counts(axes[0, 0], class_ids, class_names)
    _draw_outlines(axes[0, 1], class_ids, boxes_norm)
    _draw_heat(axes[1, 0], boxes_norm[:, :2], "centres", ("x", "y"))
    axes[1, 0].invert_yaxis()  # y grows downwards in images
    _draw_heat(axes[1, 1], boxes_norm[:, 2:], "sizes", ("width", "height"))
    save_figure(figure, out_jpg, dots_per_inch=120)


def _draw_class_counts(axes: Axes, class_ids: IntArray, class_names: Sequence[str]) -> None:
    counts = np.bincount(class_ids, minlength=len(class_names))
    style_axes(axes, f"objects per class ({len(class_ids)} in all)", "", "objects")
    axes.bar(np.arange(len(counts)), counts, color=ACCENT, width=0.8)
    step = tick_step(len(counts), MAX_NAMED_CLASSES)
    shown = range(0, len(class_names), step)
    axes.set_xticks(list(shown), [printable_name(index, class_names[index]) for index in shown])
    axes.tick_params(axis="x", labelrotation=90 if len(class_names) > 8 else 0)
    axes.grid(visible=False, axis="x")


def _draw_outlines(axes: Axes, class_ids: IntArray, boxes_norm: FloatArray) -> None:
    """Boxes moved to a common centre, so that their shapes can be compared."""
    from matplotlib.collections import PolyCollection  # see utils.plots.figure

    step = tick_step(len(boxes_norm), MAX_OUTLINES)
    centred = boxes_norm[::step].copy()
    centred[:, :2] = 0.5
    corners = cxcywh_to_xyxy(centred)[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    colors = [line_color(int(class_id)) for class_id in class_ids[::step]]
    outlines = PolyCollection(list(corners), facecolors="none", edgecolors=colors, linewidths=0.5)
    outlines.set_alpha(0.5)
    axes.add_collection(outlines)
    shown = f"{len(centred)} of {len(boxes_norm)}, " if step > 1 else ""
    style_axes(axes, f"box outlines ({shown}centred)", "width", "height")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")


def _draw_heat(
    axes: Axes, points: npt.NDArray[np.float32], title: str, labels: tuple[str, str]
) -> None:
    style_axes(axes, title, *labels)
    axes.grid(visible=False)
    heat, _, _ = np.histogram2d(points[:, 0], points[:, 1], HEAT_BINS, range=((0, 1), (0, 1)))
    # The square root keeps single objects visible beside a crowded cell.
    axes.imshow(
        np.sqrt(heat.T), cmap=HEAT_COLORS, origin="lower", extent=(0, 1, 0, 1), aspect="equal"
    )
