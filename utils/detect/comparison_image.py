"""Two networks' detections side by side: the first's on the left, the second's on the right.

Colors tell what became of a box, names tell its class. A box that the other network lacks is shown
there as a dashed outline. Images wider than twice their height are put one above the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from utils.class_colors import Color
from utils.detect.comparison import STATUSES, ComparedBox, Comparison, Status
from utils.draw import DARK_TEXT, draw_boxes
from utils.structures import Detections, FloatArray, ImageArray
from utils.text_ink import TextInk, shown_name, text_ink, write_text

COLORS: dict[Status, Color] = {  # apart for colour-blind readers, too
    "agreeing": (0, 158, 115),
    "differing": (245, 180, 20),
    "missing": (225, 45, 30),
    "extra": (40, 120, 255),
}
CAPTIONS: dict[Status, str] = {
    "agreeing": "agree", "differing": "differ", "missing": "only in A", "extra": "only in B",
}  # fmt: skip
MIN_LINE = 3  # pixels, so that a thinner one can still be seen
MAX_SIDE, MIN_SIDE = 1920, 800  # pixels: the longer side of each image, which is scaled to fit
MIN_CELL = 360  # pixels: a narrow image is centred in a cell that its caption fits into
WIDE = 2.0  # width / height, above which images are put one above the other
GAP = 8
PAPER, CELL = 255, 235  # grey values of captions and of cells around narrow images
TEXT_SIZES = (14, 26)  # pixels, of captions in narrow and wide cells
SMALLEST_TEXT = 10
DASH = 4  # lines' widths


@dataclass(frozen=True, slots=True)
class ComparisonStyle:
    """How comparisons are drawn.

    Attributes:
        names: of the first and the second network, for the captions.
        class_names: name of each class id.
        line_thickness: of boxes that do not agree, in pixels; None to suit the image.
        hide_labels: draw boxes without names.
        hide_scores: draw names without scores.
    """

    names: tuple[str, str]
    class_names: Sequence[str]
    line_thickness: int | None = None
    hide_labels: bool = False
    hide_scores: bool = False


def draw_comparison(
    image: ImageArray, comparison: Comparison, style: ComparisonStyle
) -> ImageArray:
    """Both networks' boxes on copies of an image, each under the network's name and its counts.

    Args:
        image: (H, W, 3) RGB.
        comparison: boxes in pixels of `image`.
        style: names, and how to draw.
    """
    height, width = image.shape[:2]
    scaled = _scaled(image)
    scale = np.array([scaled.shape[1] / width, scaled.shape[0] / height] * 2, np.float32)
    sides = (
        (comparison.first, [box.first for box in comparison.boxes]),
        (comparison.second, [box.second for box in comparison.boxes]),
    )
    panels = []
    for number, (detections, indices) in enumerate(sides):
        others, other_indices = sides[1 - number]
        drawn = _draw_absent(scaled, others.boxes * scale, other_indices, indices, comparison.boxes)
        drawn = _draw_own(drawn, detections, indices, comparison.boxes, scale, style)
        caption = f"{'AB'[number]}: {style.names[number]}"
        panels.append(_with_caption(drawn, caption, comparison.boxes, indices))
    is_wide = width > WIDE * height
    shape = (GAP, panels[0].shape[1], 3) if is_wide else (panels[0].shape[0], GAP, 3)
    gap = np.full(shape, PAPER, np.uint8)
    return np.concatenate([panels[0], gap, panels[1]], axis=0 if is_wide else 1)


def _scaled(image: ImageArray) -> ImageArray:
    """The image with its longer side between the limits."""
    height, width = image.shape[:2]
    longer = max(height, width)
    scale = min(MAX_SIDE, max(longer, MIN_SIDE)) / longer
    if scale == 1:
        return image
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)


def _line(image: ImageArray, style_line: int | None) -> int:
    return style_line or max(round(sum(image.shape[:2]) / 2 * 0.003), MIN_LINE)


def _draw_own(
    image: ImageArray,
    detections: Detections,
    indices: Sequence[int | None],
    boxes: Sequence[ComparedBox],
    scale: FloatArray,
    style: ComparisonStyle,
) -> ImageArray:
    """A network's own boxes: thin those that agree, thick and on top of them the others."""
    line = _line(image, style.line_thickness)
    for agrees in (True, False):
        chosen = [
            (index, box.status)
            for index, box in zip(indices, boxes, strict=True)
            if index is not None and (box.status == "agreeing") == agrees
        ]
        rows = [index for index, _ in chosen]
        labels = [_label(detections, index, style) for index in rows]
        colors = [COLORS[status] for _, status in chosen]
        thickness = max(2 * line // 3, 1) if agrees else line
        image = draw_boxes(image, detections.boxes[rows] * scale, colors, labels, thickness)
    return image


def _label(detections: Detections, index: int, style: ComparisonStyle) -> str:
    if style.hide_labels:
        return ""
    class_id = int(detections.class_ids[index])
    name = shown_name(class_id, style.class_names[class_id])
    return name if style.hide_scores else f"{name} {detections.scores[index]:.2f}"


def _draw_absent(
    image: ImageArray,
    boxes: FloatArray,
    indices: Sequence[int | None],
    own: Sequence[int | None],
    compared: Sequence[ComparedBox],
) -> ImageArray:
    """A copy with dashed outlines where only the other network, whose `boxes` they are, has one."""
    canvas = np.ascontiguousarray(image).copy()
    for index, mine, box in zip(indices, own, compared, strict=True):
        if index is not None and mine is None:
            _draw_dashed(canvas, boxes[index], COLORS[box.status], _line(image, None))
    return canvas


def _draw_dashed(canvas: ImageArray, box: FloatArray, color: Color, line: int) -> None:
    left, top, right, bottom = (round(float(edge)) for edge in box)
    step = DASH * line
    for start in range(left, right, 2 * step):
        end = min(start + step, right)
        for y in (top, bottom):
            cv2.line(canvas, (start, y), (end, y), color, line)
    for start in range(top, bottom, 2 * step):
        end = min(start + step, bottom)
        for x in (left, right):
            cv2.line(canvas, (x, start), (x, end), color, line)


def _with_caption(
    image: ImageArray, name: str, boxes: Sequence[ComparedBox], indices: Sequence[int | None]
) -> ImageArray:
    """The image in its cell, under a line with the name and one that counts its boxes by color."""
    height, width = image.shape[:2]
    cell_w = max(width, MIN_CELL)
    smallest, largest = TEXT_SIZES
    size = min(max(cell_w // 36, smallest), largest)
    row_h = round(1.5 * size)
    cell = np.full((2 * row_h + height, cell_w, 3), CELL, np.uint8)
    cell[: 2 * row_h] = PAPER
    left = (cell_w - width) // 2
    cell[2 * row_h :, left : left + width] = image
    _write_centred(cell[:row_h], _fitted(name, size, cell_w - size), size // 2, DARK_TEXT)
    statuses = [box.status for box, index in zip(boxes, indices, strict=True) if index is not None]
    _write_counts(cell[row_h : 2 * row_h], statuses, size)
    return cell


def _write_counts(row: ImageArray, statuses: Sequence[Status], size: int) -> None:
    """A colored square, a number and a word for each status that there is."""
    counts = [(each, statuses.count(each)) for each in STATUSES if each in statuses]
    texts = [f"{count} {CAPTIONS[status]}" for status, count in counts]
    space = row.shape[1] - size
    while size > SMALLEST_TEXT and _counts_width(texts, size) > space:
        size -= 1
    if not counts:
        _write_centred(row, text_ink("nothing found", size), size // 2, DARK_TEXT)
    left, top = size // 2, (len(row) - size) // 2
    for (status, _), text in zip(counts, texts, strict=True):
        row[top : top + size, left : left + size] = COLORS[status]
        ink = text_ink(text, size)
        _write_centred(row, ink, left + round(1.4 * size), DARK_TEXT)
        left += _counts_width([text], size)


def _counts_width(texts: Sequence[str], size: int) -> int:
    return sum(round(2.4 * size) + text_ink(text, size).ink.shape[1] for text in texts)


def _fitted(text: str, size: int, width: int) -> TextInk:
    """The text in letters that fit into `width`, its middle omitted where small ones do not."""
    for smaller in range(size, SMALLEST_TEXT - 1, -1):
        ink = text_ink(text, smaller)
        if ink.ink.shape[1] <= width:
            return ink
    for kept in range(len(text) - 1, 1, -1):
        ink = text_ink(f"{text[: kept // 2]}...{text[-((kept + 1) // 2) :]}", SMALLEST_TEXT)
        if ink.ink.shape[1] <= width:
            return ink
    return text_ink("", SMALLEST_TEXT)


def _write_centred(row: ImageArray, ink: TextInk, left: int, color: Color) -> None:
    write_text(row, ink, (left, max((len(row) - len(ink.ink)) // 2, 0)), color)
