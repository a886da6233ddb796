"""The rules that boxes of every label format must pass, and how violations are reported."""

from __future__ import annotations

import bisect
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from utils.boxes import box_area
from utils.structures import FloatArray, Outline, Targets

Box = tuple[float, float, float, float]
ProblemKind = Literal[
    "unreadable", "unknown_class", "dropped", "clipped", "duplicate", "repaired", "orphan", "noted"
]
MIN_CORNERS = 3
MAX_OVERSHOOT = 0.01  # of the image's side; what reaches further out is a wrong label


class UnreadableLabelsError(Exception):
    """A label file cannot be used at all; its image is skipped, not taken as a background."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the data that does not stop the run.

    Attributes:
        kind: "unreadable" (the image is skipped), "unknown_class" (an error wherever the labels are
            used), "dropped" or "duplicate" (the row is dropped), "clipped" (the box was cut at the
            edge of the image), "repaired" (it had one meaning), "orphan" (a label file without an
            image), "noted" (not wrong, but worth knowing).
        text: `file:line: what was found, the rule, what was done`.
        count: how many rows or files the text stands for.
    """

    kind: ProblemKind
    text: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The labels of one image; boxes in pixels of the original image.

    Attributes:
        targets: the objects, N of them.
        areas: (N,) float32, see ImageRecord.
        crowd: regions where a detection is neither a true nor a false positive.
        outlines: one per object.
        problems: what was wrong with the other rows.
        has_file: False where the image has no label file.
    """

    targets: Targets
    areas: FloatArray
    crowd: Targets
    outlines: tuple[Outline, ...] = ()
    problems: tuple[Problem, ...] = ()
    has_file: bool = True


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image that a split lists, and how to read its labels.

    Attributes:
        path: where the image is.
        image_id: see ImageRecord.
        read_labels: image's (height, width) -> its labels. Raises UnreadableLabelsError for a file
            that cannot be used.
    """

    path: Path
    image_id: int
    read_labels: Callable[[tuple[int, int]], LabelSet]


@dataclass(frozen=True, slots=True)
class Listing:
    """The images that a split lists, in the order of their ids, before any is opened.

    Attributes:
        paths: where they are.
        image_ids: see ImageRecord.
        label_files: where the labels of each are looked for; None where one file holds all.
        read_labels: an image's index and its (height, width) -> its labels. Raises
            UnreadableLabelsError for a file that cannot be used.
        problems: of the list and of files that describe all images.
        reading: what the files together say about how each label file is read.
    """

    paths: Sequence[str]
    image_ids: Sequence[int]
    label_files: Sequence[str | None]
    read_labels: Callable[[int, tuple[int, int]], LabelSet]
    problems: tuple[Problem, ...] = ()
    reading: str = ""

    @property
    def images(self) -> tuple[LabelledImage, ...]:
        """Each with all that concerns it."""
        columns = zip(self.paths, self.image_ids, strict=True)
        return tuple(
            LabelledImage(Path(path), image_id, functools.partial(self.read_labels, index))
            for index, (path, image_id) in enumerate(columns)
        )

    def select(self, indices: Sequence[int], problems: tuple[Problem, ...]) -> Listing:
        """Some of the images."""
        return Listing(
            [self.paths[index] for index in indices],
            [self.image_ids[index] for index in indices],
            [self.label_files[index] for index in indices],
            lambda index, image_hw: self.read_labels(indices[index], image_hw),
            problems,
            self.reading,
        )

    @classmethod
    def merge(cls, parts: Sequence[Listing]) -> Listing:
        """The images of several, numbered from 0."""
        paths = [path for part in parts for path in part.paths]
        ends = list(itertools.accumulate(len(part.paths) for part in parts))

        def read_labels(index: int, image_hw: tuple[int, int]) -> LabelSet:
            part = bisect.bisect_right(ends, index)
            start = ends[part] - len(parts[part].paths)
            return parts[part].read_labels(index - start, image_hw)

        return cls(
            paths,
            range(len(paths)),
            [file for part in parts for file in part.label_files],
            read_labels,
            tuple(problem for part in parts for problem in part.problems),
            ", ".join(part.reading for part in parts),
        )


def no_labels() -> LabelSet:
    """The labels of an image without a label file: it shows background only."""
    return LabelSet(Targets.empty(), np.zeros(0, np.float32), Targets.empty(), has_file=False)


def check_box(
    box: Box, limit_wh: tuple[float, float], rounding: float, *, one_pixel: bool = False
) -> tuple[Box | None, ProblemKind | None, str]:
    """Apply the rules every box must pass.

    Args:
        box: x1, y1, x2, y2 in any unit.
        limit_wh: width and height of the image in that unit.
        rounding: share of a side that a file's decimals may be off; clipped silently.
        one_pixel: the unit is a pixel, by which a box may overshoot a small image: files that count
            from 0 and from 1 are mixed up often.

    Returns:
        The box inside the image (None: it must be dropped), the kind of problem (None: there is
        none) and its description.
    """
    if 0 <= box[0] < box[2] <= limit_wh[0] and 0 <= box[1] < box[3] <= limit_wh[1]:
        return box, None, ""
    if not all(map(math.isfinite, box)):
        return None, "dropped", f"box is {format_numbers(box)}, must be finite; row dropped"
    for name, low, high in (("width", box[0], box[2]), ("height", box[1], box[3])):
        if high <= low:
            return None, "dropped", f"{name} is {high - low:g}, must be > 0; row dropped"
    width, height = limit_wh
    overshoot = max(
        -box[0] / width, -box[1] / height, (box[2] - width) / width, (box[3] - height) / height
    )
    inside = (
        max(box[0], 0.0),
        max(box[1], 0.0),
        min(box[2], width),
        min(box[3], height),
    )
    percent = 100 * overshoot
    shown = f"{percent:.2f}" if percent >= 0.01 else f"{percent:.1g}"
    outside = f"box reaches {shown}% of a side outside the image"
    pixels = max(-box[0], -box[1], box[2] - width, box[3] - height)
    if overshoot > MAX_OVERSHOOT and not (one_pixel and pixels <= 1):
        return None, "dropped", f"{outside}, must be at most {MAX_OVERSHOOT:.0%}; row dropped"
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        return None, "dropped", f"{outside}, no part of it is inside; row dropped"
    if overshoot > rounding:
        return inside, "clipped", f"{outside}, must be inside; clipped"
    return inside, None, ""


def format_numbers(numbers: Sequence[float]) -> str:
    """Numbers as a label file writes them, for messages."""
    return " ".join(f"{number:g}" for number in numbers)


def make_targets(boxes: Sequence[Box], class_ids: Sequence[int]) -> Targets:
    """(N, 4) float32 boxes and (N,) int64 class ids from N rows, N may be 0."""
    return Targets(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(class_ids, np.int64).reshape(-1)
    )


def make_outline(polygons: Iterable[Sequence[float]]) -> Outline:
    """Polygons x1 y1 x2 y2 ... in pixels as an outline; fewer than three corners are skipped."""
    return tuple(
        np.array(polygon, np.float32).reshape(-1, 2)
        for polygon in polygons
        if len(polygon) >= MIN_CORNERS * 2 and len(polygon) % 2 == 0
    )


def make_label_set(
    boxes: Sequence[Box],
    class_ids: Sequence[int],
    problems: Sequence[Problem],
    *,
    areas: Sequence[float] | None = None,
    crowd: Targets | None = None,
    outlines: Sequence[Outline] = (),
) -> LabelSet:
    """Labels from rows; `areas` default to those of the boxes, `outlines` to none for each."""
    targets = make_targets(boxes, class_ids)
    return LabelSet(
        targets=targets,
        areas=box_area(targets.boxes) if areas is None else np.array(areas, np.float32),
        crowd=Targets.empty() if crowd is None else crowd,
        outlines=tuple(outlines) if outlines else ((),) * len(targets),
        problems=tuple(problems),
    )
