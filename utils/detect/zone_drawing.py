"""Lines and zones drawn on frames, each with its count."""

from __future__ import annotations

import cv2
import numpy as np

from utils.detect.zone_counts import FrameCounts
from utils.draw import draw_note
from utils.structures import FloatArray, ImageArray

LINE_COLOR, ZONE_COLOR = (255, 255, 255), (255, 221, 0)  # RGB
OUTLINE_COLOR = (20, 20, 20)  # around a line, so that it is seen on any image
ZONE_SHARE = 0.15  # of its color in the inside of a zone
ARROW_SHARE, TIP_SHARE = 0.03, 0.4  # of the image's mean side, and of the arrow


def draw_shapes(
    image: ImageArray, counts: FrameCounts, line_thickness: int | None = None
) -> ImageArray:
    """A copy of the image with lines and zones on it; boxes come on top of them.

    A line has an arrow that points to the side where tracks come in.

    Args:
        image: (H, W, 3) RGB.
        counts: with points in pixels of the image.
        line_thickness: of the boxes; None to suit the image.
    """
    canvas = np.ascontiguousarray(image).copy()
    line = line_thickness or max(round(sum(canvas.shape[:2]) / 2 * 0.003), 2)
    for zone in counts.zones:
        _draw_zone(canvas, zone.points, line)
    for crossed in counts.lines:
        _draw_line(canvas, crossed.points, line)
    return canvas


def draw_numbers(
    canvas: ImageArray, counts: FrameCounts, line_thickness: int | None = None
) -> None:
    """Write the counts beside their lines and zones, into the image itself.

    Args:
        canvas: (H, W, 3) RGB.
        counts: with points in pixels of the image.
        line_thickness: of the boxes, which the letters suit; None to suit the image.
    """
    for zone in counts.zones:
        top = zone.points[zone.points[:, 1].argmin()]
        draw_note(canvas, _pixel(top), zone.as_text(), ZONE_COLOR, line_thickness)
    for crossed in counts.lines:
        middle = crossed.points.mean(axis=0)
        draw_note(canvas, _pixel(middle), crossed.as_text(), LINE_COLOR, line_thickness)


def _draw_zone(canvas: ImageArray, points: FloatArray, line: int) -> None:
    corners = np.rint(points).astype(np.int32)
    left, top = corners.min(axis=0)
    right, bottom = corners.max(axis=0) + 1
    inside = canvas[top:bottom, left:right]
    if inside.size:
        filled = inside.copy()
        cv2.fillPoly(filled, [corners - [left, top]], ZONE_COLOR)
        inside[:] = cv2.addWeighted(filled, ZONE_SHARE, inside, 1 - ZONE_SHARE, 0)
    for color, thickness in ((OUTLINE_COLOR, line + 2), (ZONE_COLOR, line)):
        cv2.polylines(canvas, [corners], isClosed=True, color=color, thickness=thickness)


def _draw_line(canvas: ImageArray, points: FloatArray, line: int) -> None:
    start, end = points
    middle, along = points.mean(axis=0), end - start
    to_the_right = np.array([-along[1], along[0]]) / np.hypot(*along)
    tip = middle + to_the_right * ARROW_SHARE * np.mean(canvas.shape[:2])
    for color, thickness in ((OUTLINE_COLOR, line + 2), (LINE_COLOR, line)):
        cv2.line(canvas, _pixel(start), _pixel(end), color, thickness)
        cv2.arrowedLine(canvas, _pixel(middle), _pixel(tip), color, thickness, tipLength=TIP_SHARE)


def _pixel(point: FloatArray) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
