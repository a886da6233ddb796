"""Open, style and save figures: all plots look alike, show any script and need no display."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image, ImageColor

from utils.draw import class_color
from utils.errors import MissingPackageError
from utils.image_output import write_image
from utils.structures import ImageArray
from utils.text_ink import TextInk, shown_name, text_ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import GraphicsContextBase
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

INK = "#1f2933"
ACCENT = "#0b6fb8"
MARK = "#d1495b"
QUIET = "#b8c4ce"
HEAT_COLORS = "Blues"
POINTS_PER_INCH = 72
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
    _canvas_type()(figure)  # becomes the figure's own
    return figure, figure.subplots(rows, columns, squeeze=False)


def save_figure(figure: Figure, path: Path, dots_per_inch: int = 150) -> None:
    """Write the figure as the kind of image the suffix of `path` says (.png, .jpg)."""
    figure.set_dpi(dots_per_inch)
    canvas: Any = figure.canvas
    canvas.draw()  # once; `savefig` would draw twice
    drawn = cv2.cvtColor(np.asarray(canvas.buffer_rgba()), cv2.COLOR_RGBA2RGB)
    write_image(path, np.asarray(drawn, np.uint8))


def style_axes(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    """Title, labels, a light grid, and no frame on top and right."""
    axes.set_title(title, fontsize=10, color=INK)
    axes.set_xlabel(x_label, fontsize=9, color=INK)
    axes.set_ylabel(y_label, fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(color=QUIET, alpha=0.4, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def printable(class_names: Sequence[str]) -> list[str]:
    """Names of the classes 0, 1, ... as a figure can show them: see `printable_name`."""
    return [printable_name(class_id, name) for class_id, name in enumerate(class_names)]


def printable_name(class_id: int, name: str) -> str:
    """A class name as images show it; a dollar sign in it does not start a formula."""
    return shown_name(class_id, name).replace("$", r"\$")


def line_color(number: int) -> str:
    """The color of a class (or of a numbered series) as in images, darker for a white ground."""
    red, green, blue = (round(part * DARKER) for part in class_color(number))
    return f"#{red:02x}{green:02x}{blue:02x}"


def tick_step(count: int, max_labels: int) -> int:
    """Label every n-th of `count` ticks, so that at most `max_labels` are labelled."""
    return max(math.ceil(count / max_labels), 1)


@functools.cache
def _canvas_type() -> type[FigureCanvasAgg]:
    """A canvas that draws texts beyond Latin as images show them.

    Matplotlib's own font has no Asian letters, and before 3.11 it did not join or order any.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg  # as in make_figure
    from matplotlib.colors import to_hex

    agg: Any = RendererAgg  # its methods have no types

    class Renderer(RendererAgg):
        def get_text_width_height_descent(
            self, s: str, prop: FontProperties, ismath: Any
        ) -> tuple[float, float, float]:
            if ismath or _is_latin(s):
                size: tuple[float, float, float] = agg.get_text_width_height_descent(
                    self, s, prop, ismath
                )
                return size
            text = text_ink(s, _pixels(prop, self.dpi))
            height, width = text.ink.shape
            return width, height, height - text.baseline

        def draw_text(
            self, gc: GraphicsContextBase, x: float, y: float, s: str,
            prop: FontProperties, angle: float, ismath: Any = False, mtext: Any = None,
        ) -> None:  # fmt: skip
            if ismath or _is_latin(s):
                agg.draw_text(self, gc, x, y, s, prop, angle, ismath, mtext)
                return
            ink, (left, bottom) = _rotated(text_ink(s, _pixels(prop, self.dpi)), angle)
            image = np.empty((*ink.shape, 4), np.uint8)
            image[..., :3] = ImageColor.getrgb(to_hex(gc.get_rgb()))
            image[..., 3] = ink[::-1]  # rows from the bottom upwards, as matplotlib counts them
            self.draw_image(gc, round(x + left), round(self.height - y + bottom), image)

    renderer_type: Any = Renderer  # has no types

    class Canvas(FigureCanvasAgg):
        renderer: Any = None  # of the last size: layout and drawing share it

        def get_renderer(self) -> RendererAgg:
            size = (*self.get_width_height(physical=True), self.figure.dpi)
            last = self.renderer
            if last is None or (last.width, last.height, last.dpi) != size:
                self.renderer = renderer_type(*size)
            drawn: RendererAgg = self.renderer
            return drawn

    return Canvas


def _pixels(prop: FontProperties, dots_per_inch: float) -> int:
    return max(round(prop.get_size_in_points() * dots_per_inch / POINTS_PER_INCH), 1)


def _rotated(text: TextInk, angle: float) -> tuple[ImageArray, tuple[float, float]]:
    """The ink turned counter-clockwise by degrees around the left end of its baseline.

    Returns:
        the ink, and where its left bottom corner is as seen from there, in pixels, y upwards.
    """
    height, width = text.ink.shape
    turned = np.array(
        Image.fromarray(text.ink).rotate(angle, Image.Resampling.BICUBIC, expand=True)
    )
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    # The middle of the ink stays the middle.
    across, up = width / 2, text.baseline - height / 2
    middle = (across * cos - up * sin, across * sin + up * cos)
    return turned, (middle[0] - turned.shape[1] / 2, middle[1] - turned.shape[0] / 2)


def _is_latin(text: str) -> bool:
    """Whether matplotlib draws it well by itself: accents and its minus sign included."""
    return all(letter < "\u0250" or letter == "\N{MINUS SIGN}" for letter in text)
