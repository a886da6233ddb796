"""How many objects have crossed a line, and how many are and were in a zone.

An object is a track; the point of its box that the shape names (`anchor`) is where it is.

A line has a right and a left side, seen from its first point to its second. A track is on a side
once its point is farther from the line than MARGIN of its box's size; nearer, it stays on the side
where it was, so a box that jitters on the line does not count. Where a track changes sides, and it
passed between the two ends of the line, it counts: from left to right it went in, back it went out.
A track that was first seen near the line, or went around one of its ends, does not count.

A zone counts the tracks that are in it in this frame, its border included, and all that ever were.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2

from utils.detect.zones import Point, Shape, ZonesFile, cross_product, distance_from_line
from utils.structures import NO_TRACK, Detections, FloatArray

MARGIN = 0.1  # of the square root of a box's area


@dataclass(frozen=True, slots=True)
class LineCount:
    """What has crossed a line so far.

    Attributes:
        shape: the line.
        points: (2, 2) its ends in pixels of the frame.
        went_in: how often tracks crossed it from left to right.
        went_out: how often from right to left.
    """

    shape: Shape
    points: FloatArray
    went_in: int
    went_out: int

    def as_json(self) -> dict[str, int]:
        """As it is written to tables."""
        return {"in": self.went_in, "out": self.went_out}

    def as_text(self) -> str:
        """As it is drawn and logged."""
        return f"{self.shape.name}: {self.went_in} in, {self.went_out} out"


@dataclass(frozen=True, slots=True)
class ZoneCount:
    """What is and was in a zone.

    Attributes:
        shape: the zone.
        points: (P, 2) its corners in pixels of the frame.
        now: tracks that are in it in this frame.
        total: tracks that have been in it.
    """

    shape: Shape
    points: FloatArray
    now: int
    total: int

    def as_json(self) -> dict[str, int]:
        """As it is written to tables."""
        return {"now": self.now, "total": self.total}

    def as_text(self) -> str:
        """As it is drawn and logged."""
        return f"{self.shape.name}: {self.now} now, {self.total} in all"


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """All counts after a frame, each in the order of the zones file."""

    lines: tuple[LineCount, ...]
    zones: tuple[ZoneCount, ...]

    def as_json(self) -> dict[str, Any]:
        """As it is written to tables: kind, name, numbers."""
        return {
            "lines": {each.shape.name: each.as_json() for each in self.lines},
            "zones": {each.shape.name: each.as_json() for each in self.zones},
        }

    def as_text(self) -> str:
        """One line."""
        texts = [line.as_text() for line in self.lines] + [zone.as_text() for zone in self.zones]
        return "; ".join(texts)


@dataclass(slots=True)
class _Side:
    """Where a track is at a line.

    Attributes:
        point: where it was in the latest frame that had it.
        side: 1 right, -1 left; 0 where it was never far enough from the line.
        between_ends: whether the line was last passed between its ends.
    """

    point: Point
    side: int = 0
    between_ends: bool = False


@dataclass(slots=True)
class _Track:
    """What is known of a track: its class votes, and where it is at each line and zone."""

    votes: Counter[int] = field(default_factory=Counter)
    sides: dict[int, _Side] = field(default_factory=dict)
    zones: set[int] = field(default_factory=set)

    @property
    def class_id(self) -> int:
        """The class it had in the largest number of frames, of equals the one it had first."""
        return self.votes.most_common(1)[0][0]


class ZoneCounter:
    """Counts the tracks of one video or stream at the lines and in the zones of a file."""

    def __init__(
        self,
        file: ZonesFile,
        image_hw: tuple[int, int],
        class_names: Sequence[str],
        wanted: Sequence[int] | None = None,
    ) -> None:
        """Fit the shapes to images of one size.

        Args:
            file: the lines and zones.
            image_hw: height and width of the frames in pixels.
            class_names: of the network.
            wanted: ids of the classes that are detected; None for all.

        Raises:
            ConfigError: a shape is outside of the image, or names a class that is not detected.
        """
        self._image_hw = image_hw
        self._lines, self._zones = (
            [_Counted(each, each.in_pixels(image_hw), each.class_ids(class_names, wanted))
             for each in shapes] for shapes in (file.lines, file.zones)
        )  # fmt: skip
        self._went_in, self._went_out = [0] * len(self._lines), [0] * len(self._lines)
        self._totals = [0] * len(self._zones)
        self._tracks: dict[int, _Track] = {}

    def fit(self, image_hw: tuple[int, int]) -> None:
        """Go on with images of this size in pixels; where tracks were at lines is forgotten.

        Raises:
            ConfigError: a shape is outside of the image.
        """
        if image_hw == self._image_hw:
            return
        self._image_hw = image_hw
        self._lines, self._zones = (
            [replace(each, points=each.shape.in_pixels(image_hw)) for each in counted]
            for counted in (self._lines, self._zones)
        )
        for track in self._tracks.values():
            track.sides.clear()

    def count(self, detections: Detections, alive: Collection[int]) -> FrameCounts:
        """Count one frame.

        Args:
            detections: with track ids; those without one do not count.
            alive: ids of tracks that may come again; others are forgotten.
        """
        for track_id in self._tracks.keys() - set(alive):
            del self._tracks[track_id]
        now = [0] * len(self._zones)
        for track, box in self._seen(detections):
            size = math.sqrt(max((box[2] - box[0]) * (box[3] - box[1]), 0.0))
            for number, line in enumerate(self._lines):
                self._cross(number, line, track, self._anchor(line.shape, box), MARGIN * size)
            for number, zone in enumerate(self._zones):
                if zone.counts(track.class_id) and zone.contains(self._anchor(zone.shape, box)):
                    now[number] += 1
                    self._totals[number] += number not in track.zones
                    track.zones.add(number)
        counted_lines = zip(self._lines, self._went_in, self._went_out, strict=True)
        counted_zones = zip(self._zones, now, self._totals, strict=True)
        return FrameCounts(
            tuple(LineCount(each.shape, each.points, *counts) for each, *counts in counted_lines),
            tuple(ZoneCount(each.shape, each.points, *counts) for each, *counts in counted_zones),
        )

    def _seen(self, detections: Detections) -> Iterator[tuple[_Track, list[float]]]:
        """The tracks of this frame with their boxes, xyxy; each has noted its class."""
        if detections.track_ids is None:
            return
        columns = zip(detections.track_ids.tolist(), detections.class_ids.tolist(),
                      detections.boxes.tolist(), strict=True)  # fmt: skip
        for track_id, class_id, box in columns:
            if track_id != NO_TRACK:
                track = self._tracks.setdefault(track_id, _Track())
                track.votes[class_id] += 1
                yield track, box

    def _cross(
        self, number: int, line: _Counted, track: _Track, point: Point, margin: float
    ) -> None:
        """Note where a track is at a line, and count it where it has changed sides."""
        at = track.sides.setdefault(number, _Side(point))
        start, end = line.ends
        before, distance = (distance_from_line(each, start, end) for each in (at.point, point))
        if (before > 0) != (distance > 0):
            at.between_ends = _is_between_ends(at.point, point, start, end)
        at.point = point
        if abs(distance) <= margin:
            return
        side = 1 if distance > 0 else -1
        if side == -at.side and at.between_ends and line.counts(track.class_id):
            counts = self._went_in if side > 0 else self._went_out
            counts[number] += 1
        at.side = side

    def _anchor(self, shape: Shape, box: Sequence[float]) -> Point:
        """The point of a box that counts, at most on the last row and column of the image."""
        height, width = self._image_hw
        y = box[3] if shape.anchor == "bottom" else (box[1] + box[3]) / 2
        return min((box[0] + box[2]) / 2, width - 1.0), min(y, height - 1.0)


@dataclass(frozen=True, slots=True)
class _Counted:
    """A shape in pixels, and the ids of the classes that count; None for all."""

    shape: Shape
    points: FloatArray
    class_ids: frozenset[int] | None

    @property
    def ends(self) -> tuple[Point, Point]:
        """Of a line."""
        (x1, y1), (x2, y2) = self.points.tolist()
        return (x1, y1), (x2, y2)

    def counts(self, class_id: int) -> bool:
        return self.class_ids is None or class_id in self.class_ids

    def contains(self, point: Point) -> bool:
        """Whether a point is in the zone or on its border."""
        return cv2.pointPolygonTest(self.points, point, False) >= 0


def _is_between_ends(before: Point, after: Point, start: Point, end: Point) -> bool:
    """Whether the way between two points on different sides of a line passes it between its ends.

    That is where the ends of the line are on different sides of the way, or on it.
    """
    sides = cross_product(after, start, before), cross_product(after, end, before)
    return min(sides) <= 0 <= max(sides)
