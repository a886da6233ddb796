"""evolve.png: how well runs did with each value of each hyper-parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.plots.figure import ACCENT, MARK, make_figure, save_figure, style_axes

COLUMNS = 6


def plot_search(rows: Sequence[Mapping[str, Any]], names: Sequence[str], out_png: Path) -> None:
    """One small panel per hyper-parameter: its value in each run against the run's fitness.

    Args:
        rows: one per run, with `run`, `fitness` and every name; at least one.
        names: of the hyper-parameters.
        out_png: the image to write.
    """
    best = max(rows, key=lambda row: row["fitness"])
    lines = math.ceil(len(names) / COLUMNS)
    figure, axes = make_figure((2.6 * COLUMNS, 2.2 * lines), lines, COLUMNS)
    fitness = [row["fitness"] for row in rows]
    for panel, name in zip(axes.flat, names, strict=False):
        style_axes(panel, f"{name}  {best[name]:.4g}", "", "")
        panel.scatter([row[name] for row in rows], fitness, s=14, color=ACCENT, alpha=0.6)
        panel.locator_params(axis="x", nbins=4)
        panel.scatter([best[name]], [best["fitness"]], s=40, color=MARK, marker="*")
    for panel in list(axes.flat)[len(names) :]:
        panel.set_visible(False)
    figure.suptitle(
        f"fitness of {len(rows)} runs; best: run {best['run']}, {best['fitness']:.4f} "
        "(its values in the titles)",
        fontsize=11,
        color=MARK,
    )
    save_figure(figure, out_png)
