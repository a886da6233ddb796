"""Lines and zones drawn on frames, each with its count."""

from __future__ import annotations

import cv2
import numpy as np

from utils.detect.zone_counts import FrameCounts
from utils.draw import Color, draw_note
from utils.structures import FloatArray, ImageArray

LINE_COLOR, ZONE_COLOR = (255, 255, 255), (255, 221, 0)  # RGB
OUTLINE_COLOR = (20, 20, 20)  # around a line, so that it is seen on any image
ZONE_SHARE = 0.15  # of its color in the inside of a zone
ARROW_SHARE, TIP_SHARE = 0.03, 0.4  # of the image's mean side, and of the arrow


def draw_counts(canvas: ImageArray, counts: FrameCounts, line_thickness: int | None = None) -> None:
    """Draw lines, zones and their counts into the image itself.

    A line has an arrow that points to the side where tracks come in.

    Args:
        canvas: (H, W, 3) RGB.
        counts: with points in pixels of the image.
        line_thickness: of the boxes drawn in the image; None to suit the image.
    """
    height, width = canvas.shape[:2]
    line = line_thickness or max(round((height + width) / 2 * 0.003), 2)
    for zone in counts.zones:
        _draw_zone(canvas, zone.points, line)
    for crossed in counts.lines:
        _draw_line(canvas, crossed.points, line)
    for zone in counts.zones:
        left, top = zone.points[zone.points[:, 1].argmin()]
        _note(canvas, (left, top), zone.as_text(), ZONE_COLOR, line_thickness)
    for crossed in counts.lines:
        left, top = crossed.points.mean(axis=0)
        _note(canvas, (left, top), crossed.as_text(), LINE_COLOR, line_thickness)


def _draw_zone(canvas: ImageArray, points: FloatArray, line: int) -> None:
    corners = [np.rint(points).astype(np.int32)]
    filled = canvas.copy()
    cv2.fillPoly(filled, corners, ZONE_COLOR)
    cv2.addWeighted(filled, ZONE_SHARE, canvas, 1 - ZONE_SHARE, 0, dst=canvas)
    cv2.polylines(canvas, corners, isClosed=True, color=OUTLINE_COLOR, thickness=line + 2)
    cv2.polylines(canvas, corners, isClosed=True, color=ZONE_COLOR, thickness=line)


def _draw_line(canvas: ImageArray, points: FloatArray, line: int) -> None:
    start, end = points
    middle, along = points.mean(axis=0), end - start
    to_the_right = np.array([-along[1], along[0]]) / np.hypot(*along)
    tip = middle + to_the_right * ARROW_SHARE * np.mean(canvas.shape[:2])
    for color, thickness in ((OUTLINE_COLOR, line + 2), (LINE_COLOR, line)):
        cv2.line(canvas, _pixel(start), _pixel(end), color, thickness)
        cv2.arrowedLine(canvas, _pixel(middle), _pixel(tip), color, thickness, tipLength=TIP_SHARE)


def _note(
    canvas: ImageArray, at: FloatArray | tuple[float, float], text: str, color: Color,
    line_thickness: int | None,
) -> None:  # fmt: skip
    draw_note(canvas, _pixel(at), text, color, line_thickness)


def _pixel(point: FloatArray | tuple[float, float]) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
