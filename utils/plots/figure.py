"""Open, style and save figures: all plots look alike and need no display."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.draw import class_color
from utils.errors import MissingPackageError
from utils.output_files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1f2933"
ACCENT = "#0b6fb8"
MARK = "#d1495b"
QUIET = "#b8c4ce"
HEAT_COLORS = "Blues"
DARKER = 0.8  # of the colors drawn on images: yellow and cyan must be seen on white


def make_figure(size_inches: tuple[float, float], rows: int, columns: int) -> tuple[Figure, Any]:
    """A figure and its (rows, columns) array of axes, independent of any other figure.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # here: it is slow to load and only plots need it
    except ImportError:
        raise MissingPackageError(
            "plots need matplotlib: pip install matplotlib, or turn plots off (--noplots)"
        ) from None
    figure = Figure(figsize=size_inches, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def save_figure(figure: Figure, path: Path, dots_per_inch: int = 150) -> None:
    """Write the figure as the kind of image the suffix of `path` says (.png, .jpg)."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dots_per_inch)


def style_axes(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    """Title, labels, a light grid, and no frame on top and right."""
    axes.set_title(title, fontsize=10, color=INK)
    axes.set_xlabel(x_label, fontsize=9, color=INK)
    axes.set_ylabel(y_label, fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(color=QUIET, alpha=0.4, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def printable(names: Sequence[str]) -> list[str]:
    """Class names as a figure can show them.

    A dollar sign would start a formula, and letters that the font lacks would be empty boxes.
    """
    return [
        "".join(letter if _has_glyph(letter) else "?" for letter in name).replace("$", r"\$")
        for name in names
    ]


def line_color(number: int) -> str:
    """The color of a class (or of a numbered series) as in images, darker for a white ground."""
    red, green, blue = (round(part * DARKER) for part in class_color(number))
    return f"#{red:02x}{green:02x}{blue:02x}"


def tick_step(count: int, max_labels: int) -> int:
    """Label every n-th of `count` ticks, so that at most `max_labels` are labelled."""
    return max(math.ceil(count / max_labels), 1)


def _has_glyph(letter: str) -> bool:
    """Whether DejaVu Sans, which comes with matplotlib, can draw the letter."""
    from matplotlib import font_manager  # as in make_figure

    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    return font.get_char_index(ord(letter)) != 0
