"""Rows of boxes with landmarks: `class cx cy w h x1 y1 x2 y2 ...`, which look like polygons.

YOLOv5-face writes 15 columns (five landmarks), pose data sets 5 + 2 K or 5 + 3 K (with a 0, 1 or 2
for the visibility of each of K points). A polygon of seven corners has 15 columns too, so rows are
told apart by those of the whole data set:

- landmark rows have one number of columns, polygons have any;
- landmarks lie in or near the box of their row; -1 marks an unknown one;
- read as a polygon, the second corner (in truth width and height) is far from all others.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from data.label_rules import MAX_OVERSHOOT

BOX_COLUMNS = 5
FACE_COLUMNS = 15
MIN_COLUMNS = 11  # fewer are polygons: nine are the four corners of a rotated box
MAX_FILES = 500  # that are looked at
MAX_ROWS = 2000
MIN_FACE_ROWS = 10  # of 15 columns: as many polygons never have seven corners each
SAME = 0.95  # share of rows that must agree; a few are always wrong
FAR = 0.5  # share of rows whose second corner would be far from the others
MARGIN = 0.5  # of a side: how far outside a box a landmark, or a corner, may be
VISIBILITIES = frozenset({0.0, 1.0, 2.0})

Row = tuple[float, ...]
Point = tuple[float, float]


def landmark_columns(label_files: Sequence[Path]) -> int | None:
    """The number of columns of a data set's landmark rows; None where long rows are polygons."""
    rows = _long_rows(label_files[:: max(1, len(label_files) // MAX_FILES)])
    if not rows:
        return None
    ((columns, count),) = Counter(map(len, rows)).most_common(1)
    if columns < MIN_COLUMNS or count < SAME * len(rows):
        return None
    rows = [row for row in rows if len(row) == columns]
    points = [landmarks(row) for row in rows]
    known = [(row, each) for row, each in zip(rows, points, strict=True) if each is not None]
    if len(known) < SAME * len(rows):
        return None
    if columns % 2 == 0 or any(value <= -MARGIN for row, _ in known for value in row[BOX_COLUMNS:]):
        return columns  # no polygon has such rows
    far = sum(_is_far(row, each) for row, each in known)
    is_face = columns == FACE_COLUMNS and (len(known) >= MIN_FACE_ROWS or far > 0)
    return columns if is_face or far >= FAR * len(known) else None


def landmarks(row: Sequence[float]) -> list[Point] | None:
    """The visible landmarks of a row, if it can be a box inside the image with landmarks in it."""
    cx, cy, width, height = row[1:BOX_COLUMNS]
    reach = max(abs(cx - 0.5) + width / 2, abs(cy - 0.5) + height / 2)
    if width <= 0 or height <= 0 or reach > 0.5 + MAX_OVERSHOOT:
        return None
    rest = row[BOX_COLUMNS:]
    for step in (2, 3):
        if len(rest) % step or (step == 3 and not VISIBILITIES.issuperset(rest[2::3])):
            continue
        points = [(x, y) for x, y in zip(rest[::step], rest[1::step], strict=True)]
        visible = [(x, y) for x, y in points if x > 0 and y > 0]
        reach_x, reach_y = width * (0.5 + MARGIN), height * (0.5 + MARGIN)
        if all(abs(x - cx) <= reach_x and abs(y - cy) <= reach_y for x, y in visible):
            return visible
    return None


def _is_far(row: Row, visible: Sequence[Point]) -> bool:
    """Whether width and height, read as a corner, are outside what the others span."""
    corners = [(row[1], row[2]), *visible]
    for values, value in zip(zip(*corners, strict=True), row[3:BOX_COLUMNS], strict=True):
        low, high = min(values), max(values)
        margin = MARGIN * (high - low)
        if not low - margin <= value <= high + margin:
            return True
    return False


def _long_rows(files: Iterable[Path]) -> list[Row]:
    """Rows that are no boxes, as numbers."""
    rows: list[Row] = []
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError):
            continue
        for columns in map(str.split, lines):
            row = _numbers(columns) if len(columns) > BOX_COLUMNS + 1 else ()
            rows += [row] if row else []
        if len(rows) >= MAX_ROWS:
            break
    return rows


def _numbers(columns: Sequence[str]) -> Row:
    try:
        row = tuple(float(column) for column in columns)
    except ValueError:
        return ()
    return row if all(map(math.isfinite, row)) else ()
