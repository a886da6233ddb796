"""YOLO text labels: one `.txt` per image, one row per object, numbers as shares of the image.

A row is `class cx cy w h` or a polygon `class x1 y1 x2 y2 x3 y3 ...`; each row is read on its own,
so a file may hold both kinds. Boxes with landmarks are recognised, see `landmark_rows`.
"""

from __future__ import annotations

import codecs
import itertools
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from data.file_states import Evidence
from data.label_rules import (
    MAX_OVERSHOOT,
    Box,
    LabelSet,
    Listing,
    Problem,
    UnreadableLabelsError,
    check_box,
    make_label_set,
    make_outline,
    no_labels,
)
from data.listing import list_images, stem
from data.scan_result import find_orphans
from utils.structures import Outline

BOX_COLUMNS = 5
MAX_CLASS_ID = 1_000_000
MIN_POLYGON_COLUMNS = 7  # class and three corners
ROUNDING = 1e-5  # half a unit of the fifth decimal, in the centre and in the size


class _RowError(ValueError):
    """A row that must be dropped; the text says what was found and the rule."""


def list_yolo_images(
    images: Sequence[Path],
    class_names: tuple[str, ...] | None,
    evidence: Evidence | None = None,
) -> Listing:
    """The images of folders and .txt lists, sorted by path, numbered from 0.

    Args:
        images: folders (searched with their subfolders) and .txt files (one image per line).
        class_names: what class ids may refer to; None allows every class id.
        evidence: is told what was looked at.

    Raises:
        DatasetError: a folder or list is missing or unreadable.
    """
    evidence = evidence or Evidence()
    paths = [path for source in images for path in list_images(source, evidence)]
    paths.sort(key=lambda path: path.replace(os.sep, "\0"))  # as `Path` sorts: part by part
    files = _label_files(paths, evidence)
    columns = landmark_columns(files, evidence)
    problems = find_orphans(paths, files, evidence)
    if columns is not None:
        message = (
            f"{Path(paths[0]).parent}: label rows of {columns} columns are boxes with landmarks; "
            "the landmarks are ignored"
        )
        problems.append(Problem("noted", message))

    def read_labels(index: int, image_hw: tuple[int, int]) -> LabelSet:
        return read_label_file(
            files[index], image_hw, class_names=class_names, landmark_columns=columns
        )

    return Listing(
        paths, range(len(paths)), files, read_labels, tuple(problems), f"landmarks {columns}"
    )


def label_path(image: Path) -> Path:
    """Where an image's label file is: the last folder `images` becomes `labels`.

    Without a folder of that name, the label file is beside the image.
    """
    parts = list(image.parts[:-1])
    for index in reversed(range(len(parts))):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts, image.stem + ".txt")


def _label_files(images: Iterable[str], evidence: Evidence) -> list[str]:
    """`label_path` of many images, most of which share their folders; or `.TXT`, if only it is."""
    starts: dict[str, str] = {}
    others: dict[str, str] = {}  # path that ends in .txt -> that of the file there is
    files = []
    for image in images:
        cut = image.rfind(os.sep) + 1
        start = image[:cut]
        if start not in starts:
            starts[start] = str(label_path(Path(start, "x"))).removesuffix("x.txt")
            others |= _in_capitals(starts[start], evidence)
        file = f"{starts[start]}{stem(image[cut:])}.txt"
        files.append(others.get(file, file) if others else file)
    return files


def _in_capitals(start: str, evidence: Evidence) -> dict[str, str]:
    """Label files called `.TXT` or alike, where no `.txt` is; by what their paths should be."""
    names = evidence.folder(Path(start)).files
    found = [name for name in names if name[-4:].lower() == ".txt" and not name.endswith(".txt")]
    there = set(names) if found else set()
    pairs = ((f"{name[:-4]}.txt", name) for name in found)
    return {start + plain: start + name for plain, name in pairs if plain not in there}


def read_label_file(
    path: str | Path,
    image_hw: tuple[int, int],
    *,
    class_names: tuple[str, ...] | None,
    landmark_columns: int | None = None,
) -> LabelSet:
    """The labels of one image. A missing file means that it shows background only.

    Args:
        path: the label file.
        image_hw: height and width of the image in pixels.
        class_names: what class ids may refer to; None allows every class id.
        landmark_columns: rows of so many columns are boxes with landmarks.

    Raises:
        UnreadableLabelsError: the file is not text.
    """
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # Path's takes longer
            text = file.read().removeprefix(codecs.BOM_UTF8).decode()
    except FileNotFoundError:
        return no_labels()
    except (OSError, ValueError) as error:
        raise UnreadableLabelsError(
            f"{path}: cannot be read as UTF-8 text ({error}); image skipped"
        ) from None
    rows, problems = _parse_rows(path, text, class_names, landmark_columns)
    height, width = image_hw
    return make_label_set(
        [(x1 * width, y1 * height, x2 * width, y2 * height) for _, (x1, y1, x2, y2), _ in rows],
        [class_id for class_id, _, _ in rows],
        problems,
        areas=[area * height * width for _, _, area in rows],
        outlines=[_outline(corners, image_hw) if corners else () for corners in rows.values()],
    )


def _outline(corners: Sequence[float], image_hw: tuple[int, int]) -> Outline:
    height, width = image_hw
    return make_outline([[x * side for x, side in zip(corners, itertools.cycle((width, height)))]])


def _parse_rows(
    path: str | Path, text: str, class_names: tuple[str, ...] | None, landmark_columns: int | None
) -> tuple[dict[tuple[int, Box, float], Sequence[float]], list[Problem]]:
    """The distinct good rows as (class, box, area) -> corners, and the problems of the others."""
    problems: list[Problem] = []
    rows: dict[tuple[int, Box, float], Sequence[float]] = {}
    first_line: dict[tuple[int, Box, float], int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            class_id, box, area, corners = _parse_row(line.split(), landmark_columns)
        except _RowError as error:
            problems.append(Problem("dropped", f"{path}:{number}: {error}; row dropped"))
            continue
        if class_names is not None and class_id >= len(class_names):
            message = (
                f"class is {class_id}, but names has {len(class_names)} entries "
                f"(0 to {len(class_names) - 1}); add the name or fix the label"
            )
            problems.append(Problem("unknown_class", f"{path}:{number}: {message}"))
            continue
        inside, kind, message = check_box(box, (1.0, 1.0), ROUNDING)
        if kind is not None:
            problems.append(Problem(kind, f"{path}:{number}: {message}"))
        if inside is None:
            continue
        row = class_id, inside, area
        rows.setdefault(row, corners)
        if (first := first_line.setdefault(row, number)) != number:
            message = f"same object as in line {first}; duplicate removed"
            problems.append(Problem("duplicate", f"{path}:{number}: {message}"))
    return rows, problems


def _parse_row(
    columns: Sequence[str], landmark_columns: int | None
) -> tuple[int, Box, float, Sequence[float]]:
    """Class id, box, area and corners (x1 y1 x2 ..., none of a box) with the image as unit."""
    numbers = _parse_numbers(columns)
    if len(numbers) == landmark_columns:
        numbers = numbers[:BOX_COLUMNS]
    polygon = len(numbers) >= MIN_POLYGON_COLUMNS and len(numbers) % 2 == 1
    if len(numbers) != BOX_COLUMNS and not polygon:
        raise _RowError(
            f"{len(numbers)} columns, must be {BOX_COLUMNS} (class cx cy w h) or a polygon "
            f"(class x1 y1 x2 y2 x3 y3 ..., an odd number from {MIN_POLYGON_COLUMNS})"
        )
    if numbers[0] < 0 or numbers[0] % 1:
        raise _RowError(f"class is {columns[0]}, must be an integer from 0")
    if numbers[0] > MAX_CLASS_ID:
        raise _RowError(f"class is {columns[0]}, must be at most {MAX_CLASS_ID}")
    class_id = int(numbers[0])
    if polygon:
        xs, ys = numbers[1::2], numbers[2::2]
        box = (min(xs), min(ys), max(xs), max(ys))
        return class_id, box, _polygon_area(xs, ys), numbers[1:]
    cx, cy, width, height = numbers[1:]
    box = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
    return class_id, box, width * height, ()


def _parse_numbers(columns: Sequence[str]) -> list[float]:
    text = "".join(columns)
    if text.isascii() and "_" not in text:  # Python also reads `1_0` and digits of other scripts
        try:
            numbers = list(map(float, columns))
        except ValueError:
            numbers = [math.nan]
        if math.isfinite(sum(numbers)):
            return numbers
    return [_parse_number(column) for column in columns]  # it says which one is wrong


def _parse_number(column: str) -> float:
    try:
        number = float(column if column.isascii() and "_" not in column else "none")
    except ValueError:
        raise _RowError(f"{column!r} is not a number") from None
    if not math.isfinite(number):
        raise _RowError(f"{column!r} is not a finite number")
    return number


def _polygon_area(xs: Sequence[float], ys: Sequence[float]) -> float:
    """The shoelace formula."""
    pairs = zip(xs, ys, [*xs[1:], xs[0]], [*ys[1:], ys[0]], strict=True)
    return abs(sum(x * next_y - next_x * y for x, y, next_x, next_y in pairs)) / 2


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


def landmark_columns(
    label_files: Sequence[str | Path], evidence: Evidence | None = None
) -> int | None:
    """The number of columns of a data set's landmark rows; None where long rows are polygons."""
    some = label_files[:: max(1, len(label_files) // MAX_FILES)]
    rows = _long_rows(some, evidence or Evidence())
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


def _long_rows(files: Iterable[str | Path], evidence: Evidence) -> list[Row]:
    """Rows that are no boxes, as numbers."""
    rows: list[Row] = []
    for file in files:
        evidence.note(file)
        try:
            lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
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
