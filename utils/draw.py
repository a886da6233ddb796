"""Boxes and labels drawn on images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from utils.class_colors import CLASS_COLORS, Color
from utils.structures import NO_TRACK, Detections, FloatArray, ImageArray, IntArray, Targets
from utils.text_ink import TextInk, shown_name, text_ink, write_text

DARK_TEXT, LIGHT_TEXT = (20, 20, 20), (255, 255, 255)
MIN_TEXT = 11  # pixels high; smaller letters cannot be read
LARGEST_SHARE = 8  # lines and letters are at most so many times smaller than the image
SHRUNK = 0.75  # letters of a label that finds no free position
# Of any box, the share that a label may cover: in a free position, and at all.
FREE_SHARE, MAX_SHARE = 0.1, 0.3
MAX_LABELS = 200  # the best boxes of an image have them; more cannot be read


@dataclass(frozen=True, slots=True)
class _Pen:
    """Sizes that suit one image, in pixels; `texts` from the usual size down to the smallest."""

    line: int
    texts: tuple[int, ...]

    @classmethod
    def for_image(cls, image: ImageArray, line_thickness: int | None) -> _Pen:
        height, width = image.shape[:2]
        most = max(min(height, width) // LARGEST_SHARE, 1)
        line = line_thickness or max(round((height + width) / 2 * 0.003), 2)
        text = max(min(round(6 + 3.5 * line), most), MIN_TEXT)
        smaller = max(round(text * SHRUNK), MIN_TEXT)
        return cls(min(line, most), (text,) if smaller == text else (text, smaller))


@dataclass(frozen=True, slots=True)
class _Label:
    """A text and where its filled box is: left, top, right, bottom in pixels."""

    text: TextInk
    margin: int
    box: IntArray


def class_color(class_id: int) -> Color:
    """The color of a class, the same in every image and run; they repeat after 80 classes."""
    return CLASS_COLORS[class_id % len(CLASS_COLORS)]


def text_color(background: Color) -> Color:
    """Dark or light letters, whichever have more contrast to the background."""
    return max((DARK_TEXT, LIGHT_TEXT), key=lambda each: contrast(background, each))


def contrast(one: Color, other: Color) -> float:
    """Contrast ratio of two colors, 1-21, as WCAG defines it; 4.5 is enough to read."""
    lights = sorted(_luminance(each) + 0.05 for each in (one, other))
    return lights[1] / lights[0]


def _luminance(color: Color) -> float:
    shares = [each / 255 for each in color]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in shares]
    return sum(x * weight for x, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


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

    A label hides no small object: it goes where it covers least, and is omitted where it would
    cover too much of another box or label, and of all but the best 200.
    Colors are those of classes, or of tracked objects, which have their number before the name.

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
    color_ids = detections.class_ids
    if detections.track_ids is not None:
        color_ids = detections.track_ids
        tracked = zip(labels, color_ids.tolist(), strict=True)
        labels = [f"#{each} {text}" if text and each != NO_TRACK else text
                  for text, each in tracked]  # fmt: skip
    colors = [class_color(int(each)) for each in color_ids]
    return draw_boxes(image, detections.boxes, colors, labels, line_thickness)


def draw_targets(
    image: ImageArray,
    targets: Targets,
    class_names: Sequence[str],
) -> ImageArray:
    """A copy of the image with its labelled objects drawn on it.

    Args:
        image: (H, W, 3) RGB.
        targets: boxes in pixels of `image`.
        class_names: name of each class id.
    """
    labels = [shown_name(int(each), class_names[each]) for each in targets.class_ids]
    colors = [class_color(int(each)) for each in targets.class_ids]
    return draw_boxes(image, targets.boxes, colors, labels, line_thickness=None)


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
    # All boxes before all labels, worst first: no line crosses a name.
    for i in range(len(boxes) - 1, -1, -1):
        _draw_box(canvas, boxes[i], colors[i], pen)
    room = _Room.of(boxes, canvas, pen)
    for i, text in enumerate(labels[:MAX_LABELS]):
        label = room.position_of(text, i) if text else None
        if label is not None:
            _draw_label(canvas, label, colors[i])
    return canvas


def _draw_box(canvas: ImageArray, box: FloatArray, color: Color, pen: _Pen) -> None:
    left, top, right, bottom = (round(float(edge)) for edge in box)
    cv2.rectangle(canvas, (left, top), (right, bottom), color, pen.line)


@dataclass(slots=True)
class _Room:
    """Where labels may go in an image: what is drawn there so far.

    Attributes:
        boxes: (N, 4) xyxy in pixels.
        labels: (N, 4) xyxy of those that have a position, `num_labels` of them.
        hidden: (N,) share of each box that labels cover.
    """

    boxes: FloatArray
    labels: FloatArray
    hidden: FloatArray
    image_hw: tuple[int, int]
    pen: _Pen
    num_labels: int = 0

    @classmethod
    def of(cls, boxes: FloatArray, image: ImageArray, pen: _Pen) -> _Room:
        """Of an image without labels."""
        hidden = np.zeros(len(boxes), np.float32)
        return cls(boxes, np.zeros_like(boxes), hidden, (image.shape[0], image.shape[1]), pen)

    def position_of(self, text: str, index: int) -> _Label | None:
        """A position for the label of a box; the best box chooses first.

        The first free one is taken: above the box, inside it, below it, beside it; then those of a
        smaller text. It is free where the label covers no other label, and labels at most a tenth
        of any box that it touches, its own included. Without a free position it goes where it hides
        least; the label is omitted where that is over three tenths of a box, or no position without
        another label is left.
        """
        best: tuple[float, _Label | None] = (MAX_SHARE, None)
        for size in self.pen.texts:
            ink, margin = text_ink(text, size), max(size // 4, 2)
            height, width = (side + 2 * margin for side in ink.ink.shape)
            positions = _positions(self.boxes[index], (height, width), self.image_hw, self.pen.line)
            covered = _covered_shares(positions, self.boxes)
            hidden = np.where(covered > 0, covered + self.hidden, 0).max(axis=1)
            hidden[_covered_shares(positions, self.labels[: self.num_labels]).any(axis=1)] = np.inf
            free = np.flatnonzero(hidden <= FREE_SHARE)
            chosen = int(free[0]) if free.size else int(hidden.argmin())
            if hidden[chosen] <= best[0]:
                best = float(hidden[chosen]), _Label(ink, margin, positions[chosen])
            if free.size:
                break
        label = best[1]
        if label is not None:
            self.hidden += _covered_shares(label.box[None], self.boxes)[0]
            self.labels[self.num_labels] = label.box
            self.num_labels += 1
        return label


def _positions(
    box: FloatArray, label_hw: tuple[int, int], image_hw: tuple[int, int], line: int
) -> IntArray:
    """Where a label may go, (N, 4) xyxy in whole pixels within the image, the best first."""
    (height, width), edge = label_hw, line // 2  # half of a line is outside its box
    left, top, right, bottom = (round(float(each)) for each in box)
    left, top, right, bottom = left - edge, top - edge, right + edge + 1, bottom + edge + 1
    corners = [
        *((left, top - height), (left, top), (left, bottom), (right - width, top - height)),
        *((right - width, bottom), (right, top), (left - width, top), (right - width, top)),
        *((left, bottom - height), (right, bottom - height), (left - width, bottom - height)),
    ]
    most_x, most_y = max(image_hw[1] - width, 0), max(image_hw[0] - height, 0)
    inside = [(min(max(x, 0), most_x), min(max(y, 0), most_y)) for x, y in corners]
    return np.array([(x, y, x + width, y + height) for x, y in inside])


def _covered_shares(positions: IntArray, obstacles: FloatArray) -> FloatArray:
    """The share of each obstacle that each position covers, (positions, obstacles)."""
    low = np.maximum(positions[:, None, :2], obstacles[None, :, :2])
    high = np.minimum(positions[:, None, 2:], obstacles[None, :, 2:])
    sides = np.maximum(high - low, 0)
    own = np.maximum(obstacles[:, 2:] - obstacles[:, :2], 1)
    return np.asarray(sides[..., 0] * sides[..., 1] / (own[:, 0] * own[:, 1]), np.float32)


def draw_note(
    canvas: ImageArray,
    corner: tuple[int, int],
    text: str,
    background: Color,
    line_thickness: int | None,
) -> None:
    """Write a text on a filled box into the image itself, so that none of it is outside.

    Args:
        canvas: (H, W, 3) RGB.
        corner: x and y of the left bottom of the box; where there is no room, it goes below.
        text: one line in any script.
        background: of the box.
        line_thickness: of the boxes drawn in the image, which the letters suit; None to suit the
            image.
    """
    pen = _Pen.for_image(canvas, line_thickness)
    ink = text_ink(text, pen.texts[0])
    margin = max(pen.texts[0] // 4, 2)
    height, width = (side + 2 * margin for side in ink.ink.shape)
    x, y = corner
    top = y - height if y >= height else y
    left = max(min(x - pen.line // 2, canvas.shape[1] - width), 0)
    top = max(min(top, canvas.shape[0] - height), 0)
    box = np.array((left, top, left + width, top + height))
    _draw_label(canvas, _Label(ink, margin, box), background)


def _draw_label(canvas: ImageArray, label: _Label, background: Color) -> None:
    """Text on a filled box; a tiny image cuts it off."""
    left, top, right, bottom = (int(edge) for edge in label.box)
    filled = canvas[top:bottom, left:right]
    filled[:] = background
    write_text(filled, label.text, (label.margin, label.margin), text_color(background))
