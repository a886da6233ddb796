"""Detections as text: YOLO label files, a CSV table, a JSON file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.boxes import xyxy_to_cxcywh
from utils.growing_file import GrowingFile
from utils.output_files import write_text
from utils.structures import NO_TRACK, Detections, Frame

if TYPE_CHECKING:
    from utils.detect.zone_counts import FrameCounts

CSV_COLUMNS = [
    *("Image Name", "Prediction", "Confidence"),  # YOLOv5's; ours follow
    *("x1", "y1", "x2", "y2", "Class ID", "Frame", "Source", "Seconds", "Time", "Output"),
]
TRACK_COLUMN = "Track ID"  # the last one, where objects are tracked
COUNT_COLUMNS = [
    *("Source", "Frame", "Seconds", "Time", "Output"),
    *("Kind", "Name", "In", "Out", "Now", "Total"),
]
BOX_DECIMALS, SCORE_DECIMALS = 3, 5  # as COCO results are written
TIME_DECIMALS = 3
EMPTY_LIST, END_OF_LIST = b"[]\n", b"\n]\n"


class LabelFiles:
    """One text file per image or frame in which something was found, in YOLO's format.

    A row is the class id, the box as fractions of the image size, the score if `with_scores`, and
    in a frame whose objects are tracked the track id, -1 where there is none yet.
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

    def write(
        self, frame: Frame, stem: str, detections: Detections, counts: FrameCounts | None
    ) -> None:
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
            numbers = [f"{number:g}" for number in [class_id, *boxes_norm[i], *score]]
            if detections.track_ids is not None:
                numbers.append(str(detections.track_ids[i]))
            rows.append(" ".join(numbers))
        write_text(path, "\n".join(rows) + "\n")


class CsvTable:
    """One row per detection, boxes in pixels of the image; whole after every frame."""

    def __init__(
        self, file: GrowingFile, class_names: Sequence[str], *, with_tracks: bool = False
    ) -> None:
        """Write the head line to a new file, or go on with one that has rows."""
        self._file, self._class_names, self._with_tracks = file, class_names, with_tracks
        if not file.tell():
            self._file.write(_csv_lines([[*CSV_COLUMNS, *[TRACK_COLUMN] * with_tracks]]))

    def write(
        self, frame: Frame, stem: str, detections: Detections, counts: FrameCounts | None
    ) -> None:
        """Add the rows of one frame."""
        rows = []
        for detection in _as_values(detections, self._class_names):
            score, box, class_id = detection["score"], detection["box"], detection["class_id"]
            what = [frame.path.name, detection["name"], score, *box, class_id]
            track = [detection.get("track_id")] if self._with_tracks else []
            rows.append([*what, *frame_columns(frame), stem, *track])
        self._file.write(_csv_lines(rows))


class CountTable:
    """One row per line and zone at the first frame of a video, and whenever its count changes."""

    def __init__(self, file: GrowingFile, class_names: Sequence[str]) -> None:
        """Write the head line to a new file, or go on with one that has rows."""
        self._file = file
        self._before: dict[int, dict[tuple[str, str], dict[str, int]]] = {}
        if not file.tell():
            self._file.write(_csv_lines([COUNT_COLUMNS]))

    def write(
        self, frame: Frame, stem: str, detections: Detections, counts: FrameCounts | None
    ) -> None:
        """Add the rows of one frame."""
        if counts is None:
            return
        if not frame.is_live and frame.position not in self._before:
            self._before.clear()  # of the video before
        before = self._before.setdefault(frame.position, {})
        rows = []
        for kind, shapes in counts.as_json().items():
            for name, numbers in shapes.items():
                if before.get((kind, name)) != numbers:
                    before[kind, name] = numbers
                    cells = [numbers.get(key) for key in ("in", "out", "now", "total")]
                    when = [frame.source, frame.frame_index, _seconds(frame), _clock(frame), stem]
                    rows.append([*when, kind.removesuffix("s"), name, *cells])
        self._file.write(_csv_lines(rows))


def _csv_lines(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return encoded(text.getvalue())


class JsonTable:
    """A JSON list with one entry per frame, one line each; closed, and so valid, at any moment."""

    def __init__(self, file: GrowingFile, class_names: Sequence[str]) -> None:
        """Begin an empty list in a new file, or go on with one that has entries."""
        self._file, self._class_names = file, class_names
        self._separator = "[\n"
        self._end = 0  # where the next entry goes: over the end of the list
        if file.tell() > len(EMPTY_LIST):
            self._separator, self._end = ",\n", file.tell() - len(END_OF_LIST)
        file.seek(self._end)
        file.write(END_OF_LIST if self._end else EMPTY_LIST)

    def write(
        self, frame: Frame, stem: str, detections: Detections, counts: FrameCounts | None
    ) -> None:
        """Add the entry of one frame."""
        text = frame_json(frame, detections, self._class_names, stem, counts)
        entry = encoded(self._separator + text)
        self._file.seek(self._end)
        self._file.write(entry + END_OF_LIST)
        self._end += len(entry)
        self._separator = ",\n"


class JsonLines:
    """One JSON object per frame and line, for programs that read along."""

    def __init__(self, file: GrowingFile, class_names: Sequence[str]) -> None:
        """Take a new file."""
        self._file, self._class_names = file, class_names

    def write(
        self, frame: Frame, stem: str, detections: Detections, counts: FrameCounts | None
    ) -> None:
        """Add the line of one frame."""
        self._file.write(frame_line(frame, detections, self._class_names, stem, counts) + b"\n")


def frame_columns(frame: Frame) -> list[object]:
    """The cells of `Frame`, `Source`, `Seconds` and `Time`."""
    return [frame.frame_index, frame.source, _seconds(frame), _clock(frame)]


def encoded(text: str) -> bytes:
    """UTF-8; what is none in a file name is escaped as JSON does it."""
    return text.encode("utf-8", errors="backslashreplace")


def _seconds(frame: Frame) -> float | None:
    return None if frame.seconds is None else round(frame.seconds, TIME_DECIMALS)


def _clock(frame: Frame) -> str | None:
    """When a live frame was captured: ISO 8601, UTC, milliseconds."""
    if frame.captured is None:
        return None
    return datetime.fromtimestamp(frame.captured, timezone.utc).isoformat(timespec="milliseconds")


def frame_json(
    frame: Frame,
    detections: Detections,
    class_names: Sequence[str],
    stem: str | None = None,
    counts: FrameCounts | None = None,
) -> str:
    """One frame as a line of JSON, boxes in pixels of its image.

    Args:
        frame: the image and where it comes from.
        detections: of the frame.
        class_names: name of each class id.
        stem: what the frame's files are called; None, and no such key, where none are written.
        counts: of lines and zones; None where none are counted.
    """
    entry: dict[str, Any] = {
        "source": frame.source,
        "frame": frame.frame_index,
        "seconds": _seconds(frame),
        "time": _clock(frame),
        **({} if stem is None else {"output": stem}),
        "image_hw": frame.image_hw,
        "detections": _as_values(detections, class_names),
    }
    if counts is not None:
        entry["counts"] = counts.as_json()
    return json.dumps(entry, ensure_ascii=False)


def frame_line(
    frame: Frame,
    detections: Detections,
    class_names: Sequence[str],
    stem: str,
    counts: FrameCounts | None,
) -> bytes:
    """As `frame_json`, in UTF-8."""
    return encoded(frame_json(frame, detections, class_names, stem, counts))


def _as_values(detections: Detections, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """One mapping per detection, numbers rounded for reading."""
    columns = zip(detections.boxes, detections.scores, detections.class_ids, strict=True)
    values: list[dict[str, Any]] = [
        {
            "box": [round(float(edge), BOX_DECIMALS) for edge in box],
            "score": round(float(score), SCORE_DECIMALS),
            "class_id": int(class_id),
            "name": class_names[class_id],
        }
        for box, score, class_id in columns
    ]
    if detections.track_ids is not None:
        for value, track_id in zip(values, detections.track_ids.tolist(), strict=True):
            value["track_id"] = None if track_id == NO_TRACK else track_id
    return values
