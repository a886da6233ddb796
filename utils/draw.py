"""Boxes and names drawn on images, and several images put side by side.

Texts are drawn by Pillow, whose layout engine (Raqm) joins and orders the letters of any script.
"""

from __future__ import annotations

import colorsys
import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw

from utils.fonts import FontRun, can_be_drawn, font_runs, open_font
from utils.structures import Detections, FloatArray, ImageArray, Targets

Color = tuple[int, int, int]  # RGB, 0-255

GOLDEN_RATIO = 0.618033988749895  # steps of this size around the color wheel never come close
DARK_TEXT, LIGHT_TEXT = (20, 20, 20), (255, 255, 255)
ASCENT, DESCENT = 0.82, 0.22  # of ordinary letters above and below their baseline, per size
# Around a name, so that what follows it stays on its right even if the name reads leftwards.
ISOLATE, END_ISOLATE = "\u2068", "\u2069"
MIN_TEXT = 11  # pixels high; smaller letters cannot be read
TILE_GAP_COLOR = 255
TITLE_TEXT = 18  # pixels high, above each image of a grid
MAX_TILES = 16


@dataclass(frozen=True, slots=True)
class TextInk:
    """A text as (H, W) uint8 ink, 255 in the middle of a stroke, and the row of its baseline."""

    ink: ImageArray
    baseline: int


@dataclass(frozen=True, slots=True)
class _RunInk:
    """The ink of a run, where it begins (seen from the pen), and where the next run does."""

    ink: ImageArray
    baseline: int
    left: int
    advance: int


@dataclass(frozen=True, slots=True)
class _Pen:
    """Sizes that suit one image, in pixels."""

    line: int
    text: int
    margin: int

    @classmethod
    def for_image(cls, image: ImageArray, line_thickness: int | None) -> _Pen:
        height, width = image.shape[:2]
        line = line_thickness or max(round((height + width) / 2 * 0.003), 2)
        text = max(round(6 + 3.5 * line), MIN_TEXT)
        return cls(line=line, text=text, margin=max(text // 4, 2))


def class_color(class_id: int) -> Color:
    """The color of a class, the same in every image and run; neighbours differ clearly."""
    hue = (0.02 + class_id * GOLDEN_RATIO) % 1.0
    # Rounds of lightness keep classes apart whose hues fall close together.
    value = (1.0, 0.82, 0.92)[class_id // 5 % 3]
    saturation = (0.85, 0.95, 0.7)[class_id // 7 % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def text_color(background: Color) -> Color:
    """Dark or light letters, whichever can be read on the background."""
    red, green, blue = background
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    return DARK_TEXT if luminance > 140 else LIGHT_TEXT


def shown_name(class_id: int, name: str) -> str:
    """A class name as it can be drawn: after its class number where a letter has no font."""
    name = _encodable(name)
    if name.isascii():
        return name
    isolated = f"{ISOLATE}{name}{END_ISOLATE}"
    return isolated if can_be_drawn(name) else f"{class_id}: {isolated}"


def text_ink(text: str, size: int) -> TextInk:
    """One line of text in any script.

    Args:
        text: letters that no font has are drawn as question marks, a file name's bytes that are no
            UTF-8 as escapes.
        size: pixels per em.
    """
    placed, end = [], 0
    for run in _runs(text):
        drawn = _run_ink(run, size)
        placed.append((end + drawn.left, drawn))
        end += drawn.advance
    left = min([0, *(start for start, _ in placed)])
    right = max([1, end, *(start + drawn.ink.shape[1] for start, drawn in placed)])
    above = max([round(ASCENT * size), *(drawn.baseline for _, drawn in placed)])
    below = max([round(DESCENT * size), *(len(each.ink) - each.baseline for _, each in placed)])
    ink = np.zeros((above + below, right - left), np.uint8)
    for start, drawn in placed:
        top, (height, width) = above - drawn.baseline, drawn.ink.shape
        area = ink[top : top + height, start - left : start - left + width]
        np.maximum(area, drawn.ink, out=area)
    return TextInk(ink, above)


@functools.lru_cache(maxsize=4096)
def _run_ink(run: FontRun, size: int) -> _RunInk:
    """A run by itself, kept: names and scores come again and again."""
    font = open_font(run.font, size)
    left, top, right, bottom = font.getbbox(run.text, anchor="ls")
    left, above = math.floor(left), max(math.ceil(-top), 0)
    canvas = Image.new("L", (math.ceil(right) - left, above + max(math.ceil(bottom), 0)))
    ImageDraw.Draw(canvas).text((-left, above), run.text, 255, font, anchor="ls")
    return _RunInk(np.array(canvas), above, left, round(font.getlength(run.text)))


def draw_detections(
    image: ImageArray,
    detections: Detections,
    class_names: Sequence[str],
    *,
    line_thickness: int | None = None,
    hide_labels: bool = False,
    hide_scores: bool = False,
) -> ImageArray:
    """A copy of the image with its detections drawn on it, the best on top.

    Args:
        image: (H, W, 3) RGB.
        detections: boxes in pixels of `image`.
        class_names: name of each class id.
        line_thickness: pixels; None to suit the image.
        hide_labels: boxes only.
        hide_scores: names without scores.
    """
    labels = []
    for class_id, score in zip(detections.class_ids, detections.scores, strict=True):
        name = shown_name(int(class_id), class_names[class_id])
        labels.append("" if hide_labels else name if hide_scores else f"{name} {score:.2f}")
    colors = [class_color(int(each)) for each in detections.class_ids]
    return draw_boxes(image, detections.boxes, colors, labels, line_thickness)


def draw_targets(
    image: ImageArray,
    targets: Targets,
    class_names: Sequence[str],
    *,
    line_thickness: int | None = None,
) -> ImageArray:
    """A copy of the image with its labelled objects drawn on it.

    Args:
        image: (H, W, 3) RGB.
        targets: boxes in pixels of `image`.
        class_names: name of each class id.
        line_thickness: pixels; None to suit the image.
    """
    labels = [shown_name(int(each), class_names[each]) for each in targets.class_ids]
    colors = [class_color(int(each)) for each in targets.class_ids]
    return draw_boxes(image, targets.boxes, colors, labels, line_thickness)


def draw_boxes(
    image: ImageArray,
    boxes: FloatArray,
    colors: Sequence[Color],
    labels: Sequence[str],
    line_thickness: int | None,
) -> ImageArray:
    """A copy of the image with boxes on it, the first on top.

    Args:
        image: (H, W, 3) RGB.
        boxes: (N, 4) xyxy in pixels of `image`.
        colors: one per box.
        labels: one per box; empty for none.
        line_thickness: pixels; None to suit the image.
    """
    canvas = np.ascontiguousarray(image).copy()
    pen = _Pen.for_image(canvas, line_thickness)
    # All boxes before all labels, worst first: no line crosses a name, the best name is on top.
    order = range(len(boxes) - 1, -1, -1)
    for i in order:
        _draw_box(canvas, boxes[i], colors[i], pen)
    for i in order:
        if labels[i]:
            corner = (round(float(boxes[i, 0])), round(float(boxes[i, 1])))
            _draw_label(canvas, corner, labels[i], colors[i], pen)
    return canvas


def write_text(image: ImageArray, text: TextInk, corner: tuple[int, int], color: Color) -> None:
    """Put a text at `corner` (x, y), its left top, into an image, which may cut it off."""
    left, top = corner
    height, width = text.ink.shape
    area = image[top : top + height, left : left + width]
    share = text.ink[: area.shape[0], : area.shape[1], None] / 255
    area[:] = np.rint(area + (np.array(color) - area) * share)


def tile_images(
    images: Sequence[ImageArray],
    titles: Sequence[str] = (),
    *,
    max_side: int = 1920,
    gap: int = 6,
) -> ImageArray:
    """Up to 16 images in a grid as square as possible, each under its title.

    Args:
        images: (H, W, 3) RGB each; sizes may differ, smaller ones are centred in their cell.
        titles: one per image, or none at all.
        max_side: the longer side of the result in pixels; the images are shrunk to fit.
        gap: pixels of white between images.

    Returns:
        (H, W, 3) RGB.
    """
    images = list(images[:MAX_TILES])
    if not images:
        return np.full((gap, gap, 3), TILE_GAP_COLOR, np.uint8)
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    height = max(image.shape[0] for image in images)
    width = max(image.shape[1] for image in images)
    title_h = round(TITLE_TEXT * 1.4) if titles else 0
    spare_h, spare_w = max_side - gap - rows * (gap + title_h), max_side - gap - columns * gap
    scale = min(1.0, spare_h / (rows * height), spare_w / (columns * width))
    cell_h, cell_w = title_h + max(int(height * scale), 1), max(int(width * scale), 1)
    shape = (rows * (cell_h + gap) + gap, columns * (cell_w + gap) + gap, 3)
    grid = np.full(shape, TILE_GAP_COLOR, np.uint8)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        top, left = gap + row * (cell_h + gap), gap + column * (cell_w + gap)
        cell = grid[top : top + cell_h, left : left + cell_w]
        _fill_cell(cell, _shrink(image, scale), titles[number] if titles else "", title_h)
    return grid


def _shrink(image: ImageArray, scale: float) -> ImageArray:
    if scale >= 1.0:
        return image
    height, width = image.shape[:2]
    size = (max(int(width * scale), 1), max(int(height * scale), 1))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _fill_cell(cell: ImageArray, tile: ImageArray, title: str, title_h: int) -> None:
    """Put title and image, centred together, into one cell of the grid."""
    height, width = tile.shape[:2]
    top = (cell.shape[0] - title_h - height) // 2
    left = (cell.shape[1] - width) // 2
    cell[top + title_h : top + title_h + height, left : left + width] = tile
    if title:
        ink = text_ink(title, TITLE_TEXT)
        write_text(cell[:title_h, left:], ink, (1, max(TITLE_TEXT - ink.baseline, 0)), DARK_TEXT)


def _draw_box(canvas: ImageArray, box: FloatArray, color: Color, pen: _Pen) -> None:
    left, top, right, bottom = (round(float(edge)) for edge in box)
    cv2.rectangle(canvas, (left, top), (right, bottom), color, pen.line)


def _draw_label(
    canvas: ImageArray,
    corner: tuple[int, int],
    text: str,
    background: Color,
    pen: _Pen,
) -> None:
    """Text on a filled box above `corner`, or below it where there is no room; never outside."""
    ink = text_ink(text, pen.text)
    height, width = canvas.shape[:2]
    label_h, label_w = (side + 2 * pen.margin for side in ink.ink.shape)
    left = max(min(corner[0] - pen.line // 2, width - label_w), 0)
    above = corner[1] - label_h
    top = corner[1] if above < 0 else above
    top = max(min(top, height - label_h), 0)
    label = canvas[top : top + label_h, left : left + label_w]  # cut off by a tiny image
    label[:] = background
    write_text(label, ink, (pen.margin, pen.margin), text_color(background))


def _runs(text: str) -> list[FontRun]:
    """The text's parts, leftmost first: an isolated one, such as a name, is ordered by itself.

    Of ASCII each word is a part, so that a name with another score is not drawn anew.
    """
    runs: list[FontRun] = []
    for part in re.split(f"[{ISOLATE}{END_ISOLATE}]", _encodable(text)):
        if part.isascii():
            runs += [FontRun(word, None) for word in re.findall(" *[^ ]+| +$", part)]
        else:
            runs += font_runs(part)
    return runs


def _encodable(text: str) -> str:
    """A file name's bytes that are no UTF-8 as escapes: no font has letters for them."""
    return text.encode("utf-8", "backslashreplace").decode()
