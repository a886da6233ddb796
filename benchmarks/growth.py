"""How a cost grows with a size: its values, the power of the size it grows with, and a plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.measurement import Spread
from utils.plots.figure import line_color, make_figure, save_figure, style_axes

MIN_FOR_POWER = 2  # sizes


@dataclass(frozen=True, slots=True)
class Growth:
    """A cost at several sizes.

    Attributes:
        name: of the cost.
        unit: of the values.
        sizes: in ascending order.
        values: at each size, of all rounds.
    """

    name: str
    unit: str
    sizes: tuple[float, ...]
    values: tuple[Spread, ...]

    @property
    def power(self) -> float:
        """The p of size ** p that fits the medians best, on logarithmic axes; NaN for one size."""
        if len(self.sizes) < MIN_FOR_POWER:
            return math.nan
        medians = [each.median for each in self.values]
        slope, _ = np.polyfit(np.log(self.sizes), np.log(medians), 1)
        return float(slope)

    @property
    def last_power(self) -> float:
        """The same of the two largest sizes alone, where constant costs count least."""
        return Growth(self.name, self.unit, self.sizes[-2:], self.values[-2:]).power


def plot_growths(path: Path, title: str, size: str, growths: Sequence[Growth]) -> None:
    """One line per cost on logarithmic axes, with the power it grows with at its end.

    Args:
        path: of the image.
        title: above it.
        size: what the costs grow with.
        growths: all of one unit.
    """
    figure, axes = make_figure((7, 4.5), 1, 1)
    plot = axes[0, 0]
    for number, growth in enumerate(growths):
        medians = [each.median for each in growth.values]
        low = [each.median - min(each.values) for each in growth.values]
        high = [max(each.values) - each.median for each in growth.values]
        label = f"{growth.name}: ^{growth.last_power:.2f} at the end"
        plot.errorbar(growth.sizes, medians, yerr=[low, high], marker="o", markersize=4,
                      capsize=3, color=line_color(number), label=label)  # fmt: skip
    plot.set_xscale("log")
    plot.set_yscale("log")
    sizes = sorted({each for growth in growths for each in growth.sizes})
    plot.set_xticks(sizes, [f"{each:g}" for each in sizes])
    plot.minorticks_off()
    style_axes(plot, title, size, growths[0].unit)
    plot.legend(fontsize=8)
    save_figure(figure, path)
