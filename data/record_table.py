"""The records of many images, kept in a few arrays; each is made when it is asked for."""

from __future__ import annotations

import dataclasses
import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from data.label_rules import LabelSet
from utils.structures import FloatArray, ImageRecord, IntArray, Outline, Targets


@dataclass(frozen=True, slots=True, eq=False)
class RecordTable(Sequence[ImageRecord]):
    """ImageRecords of R images with N objects.

    Attributes:
        paths: of the images.
        image_ids: see ImageRecord.
        image_hws: (R, 2) int64 height and width.
        starts: (R + 1,) int64, where the objects of each image begin.
        boxes: (N, 4) float32 xyxy in pixels of the original images.
        class_ids: (N,) int64.
        areas: (N,) float32.
        crowd_starts: (R + 1,) int64, where the regions that do not count begin.
        crowd_boxes: (K, 4) float32.
        crowd_ids: (K,) int64.
        polygon_starts: (N + 1,) int64, where the polygons of each object begin; empty where
            outlines were not asked for.
        corner_starts: (P + 1,) int64, where the corners of each polygon begin.
        corners: (Q, 2) float32.
    """

    paths: Sequence[str]
    image_ids: Sequence[int]
    image_hws: IntArray
    starts: IntArray
    boxes: FloatArray
    class_ids: IntArray
    areas: FloatArray
    crowd_starts: IntArray
    crowd_boxes: FloatArray
    crowd_ids: IntArray
    polygon_starts: IntArray
    corner_starts: IntArray
    corners: FloatArray

    @classmethod
    def of(cls, records: Iterable[ImageRecord]) -> RecordTable:
        """A table of any records; the same one if they are in one, whose outlines are kept."""
        if isinstance(records, RecordTable):
            return records
        rows = TableRows(outlines=False)
        for record in records:
            rows.append(str(record.path), record.image_id, record.image_hw, record)
        return rows.table()

    @property
    def object_counts(self) -> IntArray:
        """(R,) how many objects each image shows."""
        return np.diff(self.starts)

    @property
    def num_backgrounds(self) -> int:
        """How many images show neither objects nor regions that do not count."""
        return int((np.diff(self.starts) + np.diff(self.crowd_starts) == 0).sum())

    def __len__(self) -> int:
        """The number of images."""
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> ImageRecord: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ImageRecord, ...]: ...
    def __getitem__(self, index: int | slice) -> ImageRecord | tuple[ImageRecord, ...]:
        """The record of one image, or of several."""
        if isinstance(index, slice):
            return tuple(map(self._record, range(*index.indices(len(self)))))
        return self._record(range(len(self))[index])

    def __iter__(self) -> Iterator[ImageRecord]:
        """The records, in order."""
        return map(self._record, range(len(self)))

    def join(self, other: RecordTable) -> RecordTable:
        """These records and others, of which both or none have outlines."""

        def joined(name: str) -> Any:
            first, second = getattr(self, name), getattr(other, name)
            if not isinstance(first, np.ndarray):
                return [*first, *second]
            if name.endswith("starts") and len(first):
                second = second[1:] + first[-1]
            return np.concatenate([first, second])

        return RecordTable(*(joined(field.name) for field in dataclasses.fields(self)))

    def take(self, rows: IntArray) -> RecordTable:
        """The records of some rows."""
        starts, objects = _take(self.starts, rows)
        crowd_starts, crowds = _take(self.crowd_starts, rows)
        polygon_starts, corner_starts, corners = (
            self.polygon_starts, self.corner_starts, np.zeros(0, np.int64),
        )  # fmt: skip
        if len(polygon_starts):
            polygon_starts, polygons = _take(self.polygon_starts, objects)
            corner_starts, corners = _take(self.corner_starts, polygons)
        return RecordTable(
            paths=[self.paths[row] for row in rows.tolist()],
            image_ids=[self.image_ids[row] for row in rows.tolist()],
            image_hws=self.image_hws[rows],
            starts=starts,
            boxes=self.boxes[objects],
            class_ids=self.class_ids[objects],
            areas=self.areas[objects],
            crowd_starts=crowd_starts,
            crowd_boxes=self.crowd_boxes[crowds],
            crowd_ids=self.crowd_ids[crowds],
            polygon_starts=polygon_starts,
            corner_starts=corner_starts,
            corners=self.corners[corners],
        )

    def _record(self, row: int) -> ImageRecord:
        start, end = self.starts[row : row + 2].tolist()
        crowd_start, crowd_end = self.crowd_starts[row : row + 2].tolist()
        height, width = self.image_hws[row].tolist()
        return ImageRecord(
            path=Path(self.paths[row]),
            image_hw=(height, width),
            targets=Targets(self.boxes[start:end], self.class_ids[start:end]),
            image_id=self.image_ids[row],
            areas=self.areas[start:end],
            crowd=Targets(
                self.crowd_boxes[crowd_start:crowd_end], self.crowd_ids[crowd_start:crowd_end]
            ),
            outlines=self._outlines(start, end) if len(self.polygon_starts) else (),
        )

    def _outlines(self, start: int, end: int) -> tuple[Outline, ...]:
        first = self.polygon_starts[start : end + 1].tolist()
        edges = self.corner_starts[first[0] : first[-1] + 1].tolist()
        polygons = [self.corners[one:other] for one, other in itertools.pairwise(edges)]
        return tuple(
            tuple(polygons[one - first[0] : other - first[0]])
            for one, other in itertools.pairwise(first)
        )


def _take(starts: IntArray, rows: IntArray) -> tuple[IntArray, IntArray]:
    """Some rows of a column of lists: where each begins then, and indices of their elements."""
    counts = np.diff(starts)[rows]
    ends = np.cumsum(counts)
    indices = np.arange(counts.sum()) + np.repeat(starts[rows] - (ends - counts), counts)
    return np.concatenate([[0], ends]), indices


class TableRows:
    """A table that grows.

    Args:
        outlines: keep the polygons of objects.
        single_class: take every object as class 0.
    """

    def __init__(self, *, outlines: bool, single_class: bool = False) -> None:
        self._outlines, self._single_class = outlines, single_class
        self._paths: list[str] = []
        self._image_ids: list[int] = []
        self._numbers = {
            name: array("q", [0] if name.endswith("starts") else [])
            for name in ("hws", "starts", "crowd_starts", "polygon_starts", "corner_starts")
        }
        self._values = {
            name: bytearray()
            for name in ("boxes", "class_ids", "areas", "crowd_boxes", "crowd_ids", "corners")
        }

    def __len__(self) -> int:
        """The number of images."""
        return len(self._paths)

    def append(
        self, path: str, image_id: int, image_hw: tuple[int, int], labels: ImageRecord | LabelSet
    ) -> None:
        """Add an image and what is labelled in it."""
        self._paths.append(path)
        self._image_ids.append(image_id)
        numbers, values = self._numbers, self._values
        numbers["hws"].extend(image_hw)
        numbers["starts"].append(numbers["starts"][-1] + len(labels.targets))
        numbers["crowd_starts"].append(numbers["crowd_starts"][-1] + len(labels.crowd))
        values["boxes"] += np.asarray(labels.targets.boxes, np.float32).tobytes()
        values["class_ids"] += np.asarray(labels.targets.class_ids, np.int64).tobytes()
        values["areas"] += np.asarray(labels.areas, np.float32).tobytes()
        if len(labels.crowd):
            values["crowd_boxes"] += np.asarray(labels.crowd.boxes, np.float32).tobytes()
            values["crowd_ids"] += np.asarray(labels.crowd.class_ids, np.int64).tobytes()
        if self._outlines:
            for outline in labels.outlines:
                self._append_outline(outline)

    def _append_outline(self, outline: Outline) -> None:
        polygons, corners = self._numbers["polygon_starts"], self._numbers["corner_starts"]
        polygons.append(polygons[-1] + len(outline))
        for polygon in outline:
            corners.append(corners[-1] + len(polygon))
            self._values["corners"] += polygon.tobytes()

    def table(self) -> RecordTable:
        """All of them."""
        numbers = {name: np.array(each, np.int64) for name, each in self._numbers.items()}
        class_ids, crowd_ids = (
            np.frombuffer(self._values[name], np.int64) for name in ("class_ids", "crowd_ids")
        )
        floats = {
            name: np.frombuffer(self._values[name], np.float32)
            for name in ("boxes", "areas", "crowd_boxes", "corners")
        }
        return RecordTable(
            paths=self._paths,
            image_ids=self._image_ids,
            image_hws=numbers["hws"].reshape(-1, 2),
            starts=numbers["starts"],
            boxes=floats["boxes"].reshape(-1, 4),
            class_ids=np.zeros_like(class_ids) if self._single_class else class_ids,
            areas=floats["areas"],
            crowd_starts=numbers["crowd_starts"],
            crowd_boxes=floats["crowd_boxes"].reshape(-1, 4),
            crowd_ids=np.zeros_like(crowd_ids) if self._single_class else crowd_ids,
            polygon_starts=numbers["polygon_starts"] if self._outlines else np.zeros(0, np.int64),
            corner_starts=numbers["corner_starts"],
            corners=floats["corners"].reshape(-1, 2),
        )
