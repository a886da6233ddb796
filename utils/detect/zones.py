"""Lines and zones drawn on a camera's image, of `--zones zones.yaml`, and what is wrong in it.

A name has its points, in pixels or as fractions of the image, and perhaps classes and an anchor:
`lines: {kerb: {points: [[0, 800], [1920, 700]], classes: [person], anchor: center}}`.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.detect_config import DetectConfig
from utils.errors import ConfigError, suggest
from utils.strict_mapping import check_keys
from utils.strict_yaml import read_yaml
from utils.structures import FloatArray, NamedFile

Point = tuple[float, float]
MAX_POINTS, MAX_PIXELS = 200, 1e6
MIN_LENGTH = {True: 0.001, False: 1.0}  # of a line: in fractions of the image, in pixels
ANCHORS = ("bottom", "center")  # of a box: the middle of its lower edge, or its centre
_TINY = 1e-9  # of the square of a polygon's extent: an area that is only rounding


@dataclass(frozen=True, slots=True)
class Shape:
    """A line or a zone.

    Attributes:
        name: of the line or zone.
        where: file and key, for messages.
        points: x and y of the two ends of a line, or of the corners of a zone.
        is_fraction: they are fractions of the image's width and height, not pixels.
        classes: names or ids of the classes that count; None for all.
        anchor: the point of a box that counts, one of ANCHORS.
    """

    name: str
    where: str
    points: tuple[Point, ...]
    is_fraction: bool
    classes: tuple[str | int, ...] | None = None
    anchor: str = ANCHORS[0]

    def in_pixels(self, image_hw: tuple[int, int]) -> FloatArray:
        """(P, 2) x and y in pixels of an image.

        Raises:
            ConfigError: a point is outside of the image.
        """
        height, width = image_hw
        points = np.array(self.points, np.float32)
        if self.is_fraction:
            return points * np.array([width, height], np.float32)
        for x, y in self.points:
            if x > width or y > height:
                raise ConfigError(
                    f"{self.where}: the point {_text((x, y))} is outside of the image, which is "
                    f"{width} x {height} pixels; fractions from 0 to 1 suit images of any size"
                )
        return points

    def class_ids(
        self, class_names: Sequence[str], wanted: Sequence[int] | None
    ) -> frozenset[int] | None:
        """The ids of the classes that count; None for all.

        Args:
            class_names: of the network.
            wanted: the ids that are detected; None for all.

        Raises:
            ConfigError: the network has no such class, or it is not detected.
        """
        if self.classes is None:
            return None
        ids = frozenset(self._class_id(each, class_names) for each in self.classes)
        for each in sorted(ids):
            if wanted is not None and each not in wanted:
                raise ConfigError(
                    f"{self.where}.classes: {class_names[each]} (class {each}) is not among "
                    f"--classes {' '.join(map(str, wanted))}, so nothing of it would be counted"
                )
        return ids

    def _class_id(self, wanted: str | int, class_names: Sequence[str]) -> int:
        if isinstance(wanted, int):
            if wanted < len(class_names):
                return wanted
            raise ConfigError(
                f"{self.where}.classes: there is no class {wanted}; the network has 0 to "
                f"{len(class_names) - 1}"
            )
        if wanted in class_names:
            return class_names.index(wanted)
        hint = suggest(wanted, class_names, "classes of the network")
        raise ConfigError(f"{self.where}.classes: no class is called {wanted!r}{hint}")


@dataclass(frozen=True, slots=True)
class ZonesFile:
    """What a zones yaml has in it.

    Attributes:
        path: of the file.
        digest: of its content, by which a run that goes on knows it.
        lines: that objects cross.
        zones: that objects are in.
    """

    path: Path
    digest: str
    lines: tuple[Shape, ...]
    zones: tuple[Shape, ...]


def read_zones(path: Path) -> ZonesFile:
    """Read a zones yaml strictly.

    Raises:
        ConfigError: it cannot be read, has an unknown key, or a line or zone in it cannot be one;
            names the file, the key and the rule.
    """
    content = read_yaml(path)
    check_keys(str(path), content, (), ("lines", "zones"))
    lines = _shapes(path, "lines", content)
    zones = _shapes(path, "zones", content)
    if not lines and not zones:
        raise ConfigError(f"{path}: has neither lines nor zones; name at least one of them")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    return ZonesFile(path, digest, lines, zones)


def _shapes(path: Path, kind: str, content: Mapping[str, Any]) -> tuple[Shape, ...]:
    entries = content.get(kind)
    if entries is None:
        return ()
    if not isinstance(entries, dict):
        raise ConfigError(
            f"{path}: {kind} is {entries!r}, expected names, each with its points: "
            "`door: {points: [[0, 10], [50, 10]]}`"
        )
    return tuple(_shape(path, kind, name, entry) for name, entry in entries.items())


def _shape(path: Path, kind: str, name: object, entry: object) -> Shape:
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ConfigError(
            f"{path}: {kind}: the name {name!r} is not a text of one line; write it in quotes"
        )
    where = f"{path}: {kind}.{name}"
    if not isinstance(entry, dict):
        raise ConfigError(f"{where} is {entry!r}, expected `points: [[x, y], ...]`")
    check_keys(where, entry, ("points",), ("classes", "anchor"))
    points = _points(where, entry["points"])
    is_fraction = bool(points) and _is_fraction(where, points)
    if kind == "lines":
        _check_line(where, points, MIN_LENGTH[is_fraction])
    else:
        _check_zone(where, points)
    anchor = entry.get("anchor", ANCHORS[0])
    if anchor not in ANCHORS:
        hint = suggest(str(anchor), ANCHORS, "choices")
        raise ConfigError(f"{where}.anchor is {anchor!r}: no such point of a box{hint}")
    return Shape(name, where, points, is_fraction, _classes(where, entry.get("classes")), anchor)


def _points(where: str, value: object) -> tuple[Point, ...]:
    if not isinstance(value, list) or len(value) > MAX_POINTS:
        found = f"{len(value)} points" if isinstance(value, list) else repr(value)
        raise ConfigError(f"{where}.points is {found}, expected `[[x, y], ...]`, at most "
                          f"{MAX_POINTS} of them")  # fmt: skip
    for number, point in enumerate(value, 1):
        if not (isinstance(point, list) and len(point) == 2 and all(map(_is_number, point))):
            raise ConfigError(f"{where}.points: point {number} is {point!r}, expected two "
                              "numbers, [x, y]")  # fmt: skip
        if min(point) < 0:
            raise ConfigError(
                f"{where}.points: point {number}, {_text(point)}, is outside of the image: x and y "
                "count from its left top corner and are not negative"
            )
    return tuple((float(x), float(y)) for x, y in value)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < MAX_PIXELS  # which NaN is not


def _is_fraction(where: str, points: Sequence[Point]) -> bool:
    """Whether these are fractions: none is above 1."""
    numbers = list(itertools.chain(*points))
    if max(numbers) <= 1:
        return True
    for number in numbers:
        if 0 < number < 1:
            raise ConfigError(
                f"{where}.points: {number:g} is a fraction of the image and {max(numbers):g} is in "
                "pixels; write all numbers in pixels, or all as fractions from 0 to 1"
            )
    return False


def _classes(where: str, value: object) -> tuple[str | int, ...] | None:
    if value is None:
        return None
    if isinstance(value, list) and value and all(map(_is_class, value)):
        return tuple(value)
    raise ConfigError(f"{where}.classes is {value!r}, expected names or ids: `[person, 2]`")


def _is_class(value: object) -> bool:
    return isinstance(value, str) or (type(value) is int and value >= 0)


def _check_line(where: str, points: Sequence[Point], least: float) -> None:
    """Two ends.

    Raises:
        ConfigError: other than two points, or nearer to each other than `least`.
    """
    if len(points) != 2:
        raise ConfigError(
            f"{where}.points has {len(points)} points, a line has two; an area is one of `zones`, "
            "a bent line several lines"
        )
    if math.dist(*points) < least:
        raise ConfigError(
            f"{where}.points: the ends, {_text(points[0])} and {_text(points[1])}, are the same; "
            "name two that are apart"
        )


def _check_zone(where: str, points: Sequence[Point]) -> None:
    """A simple polygon, of which no two edges meet but neighbours at their corner.

    Raises:
        ConfigError: naming what is wrong with it.
    """
    count = len(points)
    if count < 3:
        raise ConfigError(f"{where}.points has {count} points, a zone has at least three; "
                          "a line is one of `lines`")  # fmt: skip
    for i, corner in enumerate(points):
        if corner in points[:i]:
            raise ConfigError(
                f"{where}.points: points {points.index(corner) + 1} and {i + 1} are both "
                f"{_text(corner)}; omit one, the polygon closes by itself"
            )
    edges = [(points[i], points[(i + 1) % count]) for i in range(count)]
    for first, second in itertools.combinations(edges, 2):
        have_a_corner = bool(set(first) & set(second))
        meet = _fold_back(first, second) if have_a_corner else segments_meet(*first, *second)
        if meet:
            raise ConfigError(
                f"{where}.points: the edge {_text(first[0])} to {_text(first[1])} meets the edge "
                f"{_text(second[0])} to {_text(second[1])}; name the corners in their order around "
                "the zone"
            )
    extent = max(max(x for x, _ in points), max(y for _, y in points))
    if abs(sum(cross_product(a, b) for a, b in edges)) <= _TINY * extent**2:
        raise ConfigError(f"{where}.points: the polygon has no area")


def cross_product(a: Point, b: Point, origin: Point = (0.0, 0.0)) -> float:
    """Of the vectors from `origin`; above 0 where `b` is on the right of `a` (y points down)."""
    (ax, ay), (bx, by), (x, y) = a, b, origin
    return (ax - x) * (by - y) - (ay - y) * (bx - x)


def segments_meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether the segments from `a` to `b` and from `c` to `d` have a point in common."""
    products = (cross_product(b, c, a), cross_product(b, d, a),
                cross_product(d, a, c), cross_product(d, b, c))  # fmt: skip
    sides = [(product > 0) - (product < 0) for product in products]
    if sides[0] != sides[1] and sides[2] != sides[3]:
        return True
    ends = ((c, a, b), (d, a, b), (a, c, d), (b, c, d))
    return any(side == 0 and _is_between(*end) for side, end in zip(sides, ends, strict=True))


def _is_between(point: Point, a: Point, b: Point) -> bool:
    """Whether a point of the line through `a` and `b` is on the segment between them."""
    return all(min(p, q) <= at <= max(p, q) for at, p, q in zip(point, a, b, strict=True))


def _fold_back(first: tuple[Point, Point], second: tuple[Point, Point]) -> bool:
    """Whether two edges with a common corner lie on each other."""
    (common,) = set(first) & set(second)
    (a,), (b,) = set(first) - {common}, set(second) - {common}
    dot = sum((p - o) * (q - o) for p, q, o in zip(a, b, common, strict=True))
    return cross_product(a, b, common) == 0 and dot > 0


def _text(point: Sequence[float]) -> str:
    return "[" + ", ".join(f"{number:g}" for number in point) + "]"


def distance_from_line(point: Point, start: Point, end: Point) -> float:
    """Signed, in pixels: above 0 on the right of the line seen from its start (y points down)."""
    length = math.dist(start, end)
    return cross_product(end, point, start) / length


def zones_of(config: DetectConfig, files: Sequence[NamedFile]) -> ZonesFile | None:
    """The lines and zones of `--zones`.

    Raises:
        ConfigError: the file is wrong, nothing is tracked, or it cannot be in this source.
    """
    if config.zones is not None and not config.track:
        raise ConfigError(f"--zones {config.zones}: tracked objects are counted; add --track")
    one_video = len(files) == 1 and files[0].is_video
    if config.track and config.shard is not None and one_video:
        raise ConfigError(
            f"--shard {config.shard}: objects keep their ids through a whole video, which --track "
            "cannot follow in a part of one; process it without --shard, or several videos with it"
        )
    return None if config.zones is None else read_zones(Path(config.zones))
