"""Two networks compared: `compare.csv`, how many boxes of each class agree, and images."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from utils.detect.comparison import (
    AGREEING_IOU,
    AGREEING_SCORE,
    DECIMALS,
    DIFFERENCES,
    SAME_OBJECT_IOU,
    STATUSES,
    ComparedBox,
    Comparison,
)
from utils.detect.comparison_image import ComparisonStyle, draw_comparison
from utils.detect.tables import BOX_DECIMALS, encoded, frame_columns
from utils.growing_file import GrowingFile
from utils.structures import Detections, Frame, ImageArray

_OF_A_BOX = ("Prediction", "Confidence", "x1", "y1", "x2", "y2", "Class ID")
CSV_COLUMNS = [
    *("Image Name", "Status", "Differs", "IoU"),
    *(f"{column} {network}" for network in "AB" for column in _OF_A_BOX),
    *("Frame", "Source", "Seconds", "Time", "Output"),
]
NEAR_THRESHOLD = "near-threshold"  # of a single box: the other network's may be just below it


@dataclass(frozen=True, slots=True)
class ComparedFiles:
    """Which networks are compared.

    Attributes:
        first: weights of the first one, as they were given.
        second: of the second one.
        score_threshold: of both.
    """

    first: str
    second: str
    score_threshold: float

    def names(self) -> tuple[str, str]:
        """Their file names, with as many folders before them as tell them apart."""
        parts = [
            path.rstrip("/").replace("\\", "/").split("/") for path in (self.first, self.second)
        ]
        for count in range(1, max(map(len, parts)) + 1):
            first, second = ("/".join(each[-count:]) for each in parts)
            if first != second:
                return first, second
        return parts[0][-1], parts[1][-1]


class ComparisonTotals:
    """How many boxes agree, differ, are missing and extra; a pair counts once, as the first's.

    Attributes:
        counts: (class id, status) -> boxes.
        differences: class, box or score -> pairs that differ in it; a pair may in several.
        near_threshold: single boxes that score within the tolerance of the threshold.
        min_iou: the lowest overlap of a pair; None where there is none.
        max_score_difference: the largest one of a pair; None where there is none.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[int, str]] = Counter()
        self.differences: Counter[str] = Counter()
        self.near_threshold = 0
        self.min_iou: float | None = None
        self.max_score_difference: float | None = None

    def add(self, row: dict[str, str]) -> None:
        """Count a row of the table, column -> text."""
        class_id = row["Class ID A"] or row["Class ID B"]
        self.counts[int(class_id), row["Status"]] += 1
        differs = row["Differs"].split()
        self.near_threshold += differs == [NEAR_THRESHOLD]
        self.differences.update(name for name in differs if name in DIFFERENCES)
        if row["IoU"]:
            apart = abs(float(row["Confidence A"]) - float(row["Confidence B"]))
            self.min_iou = min(float(row["IoU"]), self.min_iou or 1.0)
            self.max_score_difference = max(apart, self.max_score_difference or 0.0)

    def of_class(self, class_id: int) -> dict[str, int]:
        """Status -> boxes of a class."""
        return {status: self.counts[class_id, status] for status in STATUSES}

    def total(self) -> dict[str, int]:
        """Status -> boxes of all classes."""
        every = Counter[str]()
        for (_, status), count in self.counts.items():
            every[status] += count
        return {status: every[status] for status in STATUSES}


@dataclass(frozen=True, slots=True)
class ComparisonSummary:
    """The outcome of a comparison.

    Attributes:
        files: what was compared.
        class_names: name of each class id of the first network.
        totals: what was counted.
        ms_per_frame: stage -> milliseconds per frame of the second network.
    """

    files: ComparedFiles
    class_names: tuple[str, ...]
    totals: ComparisonTotals
    ms_per_frame: dict[str, float]

    def as_report(self) -> dict[str, Any]:
        """The content of compare.json, and a part of the `--report` file."""
        totals, apart = self.totals, self.totals.max_score_difference
        return {
            "first": self.files.first,
            "second": self.files.second,
            "same_object_iou": SAME_OBJECT_IOU,
            "agreeing_iou": AGREEING_IOU,
            "agreeing_score_difference": AGREEING_SCORE,
            "score_threshold": self.files.score_threshold,
            "total": totals.total(),
            "differing_in": {name: totals.differences[name] for name in DIFFERENCES},
            "near_threshold": totals.near_threshold,
            "min_iou": totals.min_iou,
            "max_score_difference": None if apart is None else round(apart, DECIMALS),
            "classes": [
                {"class_id": each, "name": self.class_names[each], **totals.of_class(each)}
                for each in self._class_ids()
            ],
            "second_ms_per_frame": {name: round(ms, 3) for name, ms in self.ms_per_frame.items()},
        }

    def as_text(self) -> str:
        """The summary on the console: a row per class in which something was found."""
        first, second = self.files.names()
        total, differences = self.totals.total(), self.totals.differences
        what = ", ".join(f"{differences[name]} in {name}" for name in DIFFERENCES)
        rows = [(self.class_names[each], self.totals.of_class(each)) for each in self._class_ids()]
        width = max([len("all"), *(len(name) for name, _ in rows)])
        head = "  ".join(f"{status:>9}" for status in STATUSES)
        lines = [f"{name:<{width}}  " + "  ".join(f"{each[status]:>9}" for status in STATUSES)
                 for name, each in [*rows, ("all", total)]]  # fmt: skip
        near = self.totals.near_threshold
        return "\n".join([
            f"A: {first}, B: {second}",
            f"{'':<{width}}  {head}",
            *lines,
            f"missing: only in A, extra: only in B; {near} of them score within {AGREEING_SCORE:g} "
            f"of the threshold {self.files.score_threshold:g}",
            f"differing: {what} (IoU below {AGREEING_IOU:g}, scores more than {AGREEING_SCORE:g} "
            "apart)",
        ])  # fmt: skip

    def _class_ids(self) -> list[int]:
        return sorted({class_id for class_id, _ in self.totals.counts})


class ComparisonOutput:
    """`compare.csv`, a row per box or pair of boxes in pixels of the image, and drawn images.

    Attributes:
        files: what is compared.
        totals: of all rows, those of a cut run included.
    """

    def __init__(self, file: GrowingFile, files: ComparedFiles, style: ComparisonStyle) -> None:
        """Write the head line to a new table, or go on with one that has rows.

        Args:
            file: the table.
            files: what is compared.
            style: how images are drawn.
        """
        self.files, self._file, self._style = files, file, style
        self.totals = ComparisonTotals()
        if not file.tell():
            self._append([CSV_COLUMNS])
            return
        kept = file.path.read_bytes()[: file.tell()].decode("utf-8")
        for row in csv.DictReader(io.StringIO(kept, newline="")):
            self.totals.add(row)

    def write(self, frame: Frame, stem: str, comparison: Comparison) -> None:
        """Add the rows of one frame."""
        rows = []
        for box in comparison.boxes:
            first = self._values(comparison.first, box.first)
            second = self._values(comparison.second, box.second)
            iou = "" if box.iou is None else box.iou
            differs = " ".join(box.differs) or self._note(comparison, box)
            what = [frame.path.name, box.status, differs, iou]
            rows.append([*what, *first, *second, *frame_columns(frame), stem])
        for row in rows:
            self.totals.add(dict(zip(CSV_COLUMNS, map(_text, row), strict=True)))
        self._append(rows)

    def draw(self, frame: Frame, comparison: Comparison) -> ImageArray:
        """Both networks' boxes on the frame's image, side by side."""
        return draw_comparison(frame.image, comparison, self._style)

    def summary(self, ms_per_frame: dict[str, float]) -> ComparisonSummary:
        """The outcome so far.

        Args:
            ms_per_frame: of the second network, stage -> milliseconds.
        """
        return ComparisonSummary(
            self.files, tuple(self._style.class_names), self.totals, ms_per_frame
        )

    def _values(self, detections: Detections, index: int | None) -> list[object]:
        """The cells of one box; empty ones where there is none."""
        if index is None:
            return [""] * len(_OF_A_BOX)
        class_id, score = int(detections.class_ids[index]), float(detections.scores[index])
        box = [round(float(edge), BOX_DECIMALS) for edge in detections.boxes[index]]
        return [self._style.class_names[class_id], round(score, DECIMALS), *box, class_id]

    def _note(self, comparison: Comparison, box: ComparedBox) -> str:
        if box.first is not None and box.second is not None:
            return ""
        side, index = (
            (comparison.second, box.second) if box.first is None else (comparison.first, box.first)
        )
        above = float(side.scores[index]) - self.files.score_threshold
        return NEAR_THRESHOLD if round(above, DECIMALS) <= AGREEING_SCORE else ""

    def _append(self, rows: Sequence[Sequence[object]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        self._file.write(encoded(text.getvalue()))


def _text(value: object) -> str:
    return "" if value is None else str(value)
