"""Detections as text: YOLO label files, a CSV table, a JSON file."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from utils.boxes import xyxy_to_cxcywh
from utils.output_files import atomic_path
from utils.structures import Detections, Frame

CSV_COLUMNS = [
    *("Image Name", "Prediction", "Confidence"),  # YOLOv5's; ours follow
    *("x1", "y1", "x2", "y2", "Class ID", "Frame", "Source"),
]
BOX_DECIMALS, SCORE_DECIMALS = 3, 5  # as COCO results are written


class LabelFiles:
    """One text file per image or frame in which something was found, in YOLO's format.

    A row is the class id, the box as fractions of the image size, and the score if `with_scores`.
    """

    def __init__(self, folder: Path, with_scores: bool, corners: bool) -> None:
        """Create the folder.

        Args:
            folder: where the files go.
            with_scores: add the score as last column.
            corners: left, top, right, bottom instead of centre and size.
        """
        self._folder, self._with_scores, self._corners = folder, with_scores, corners
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, frame: Frame, stem: str, detections: Detections) -> None:
        """Write `stem`.txt, or remove an older run's where nothing was found."""
        path = self._folder / f"{stem}.txt"
        if not len(detections):
            path.unlink(missing_ok=True)
            return
        height, width = frame.image_hw
        boxes = detections.boxes if self._corners else xyxy_to_cxcywh(detections.boxes)
        boxes_norm = boxes / np.array([width, height, width, height], np.float32)
        rows = []
        for i, class_id in enumerate(detections.class_ids):
            score = [detections.scores[i]] if self._with_scores else []
            rows.append(" ".join(f"{number:g}" for number in [class_id, *boxes_norm[i], *score]))
        with atomic_path(path) as temporary:
            temporary.write_text("\n".join(rows) + "\n", encoding="utf-8")


class CsvTable:
    """One row per detection, boxes in pixels of the image."""

    def __init__(self, file: IO[str], class_names: Sequence[str]) -> None:
        """Write the head line to an open file."""
        self._rows = csv.writer(file)
        self._class_names = class_names
        self._rows.writerow(CSV_COLUMNS)

    def write(self, frame: Frame, stem: str, detections: Detections) -> None:
        """Add the rows of one frame."""
        for detection in _as_values(detections, self._class_names):
            score, box, class_id = detection["score"], detection["box"], detection["class_id"]
            tail = [*box, class_id, frame.frame_index, frame.source]
            self._rows.writerow([frame.path.name, detection["name"], score, *tail])


class JsonTable(AbstractContextManager["JsonTable"]):
    """A JSON list with one entry per frame, written as the run goes, one line each."""

    def __init__(self, file: IO[str], class_names: Sequence[str]) -> None:
        """Begin the list in an open file."""
        self._file, self._class_names = file, class_names
        self._separator = "[\n"

    def write(self, frame: Frame, stem: str, detections: Detections) -> None:
        """Add the entry of one frame."""
        entry = {
            "source": frame.source,
            "frame": frame.frame_index,
            "image_hw": frame.image_hw,
            "detections": _as_values(detections, self._class_names),
        }
        self._file.write(self._separator + json.dumps(entry, ensure_ascii=False))
        self._separator = ",\n"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the list."""
        self._file.write("[]\n" if self._separator == "[\n" else "\n]\n")


def _as_values(detections: Detections, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """One mapping per detection, numbers rounded for reading."""
    columns = zip(detections.boxes, detections.scores, detections.class_ids, strict=True)
    return [
        {
            "box": [round(float(edge), BOX_DECIMALS) for edge in box],
            "score": round(float(score), SCORE_DECIMALS),
            "class_id": int(class_id),
            "name": class_names[class_id],
        }
        for box, score, class_id in columns
    ]
