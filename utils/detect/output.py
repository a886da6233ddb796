"""The files a detection run writes: labels, tables, crops, images and videos with boxes on them."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from utils.boxes import clip_boxes, cxcywh_to_xyxy, xyxy_to_cxcywh
from utils.detect.tables import CsvTable, JsonLines, JsonTable, LabelFiles
from utils.detect_config import DetectConfig
from utils.draw import draw_detections
from utils.growing_file import STANDARD_OUTPUT, GrowingFile
from utils.output_files import short_stem, writable_suffix, write_image
from utils.structures import Detections, FloatArray, Frame, ImageArray
from utils.video_output import VideoFile

logger = logging.getLogger(__name__)

CROP_SCALE, CROP_MARGIN = 1.02, 10  # a crop shows a little more than the box, as YOLOv5's do
ASSUMED_FPS = 30.0


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """What to write.

    Attributes:
        images: images and videos with boxes drawn on them.
        labels: one text file per image or frame in which something was found.
        label_scores: the score as last column of the labels.
        label_corners: labels hold left, top, right, bottom instead of centre and size.
        csv: `predictions.csv`.
        json: `predictions.json`.
        json_lines: a file in the folder with a JSON line per frame; `-` is standard output.
        segment_seconds: begin a new video file when one is this long; None for one per source.
        crops: each detection as an image of its own.
        line_thickness: of drawn boxes, in pixels; None to suit the image.
        hide_labels: draw boxes without names.
        hide_scores: draw names without scores.
    """

    images: bool = True
    labels: bool = False
    label_scores: bool = False
    label_corners: bool = False
    csv: bool = False
    json: bool = False
    json_lines: str | None = None
    segment_seconds: float | None = None
    crops: bool = False
    line_thickness: int | None = None
    hide_labels: bool = False
    hide_scores: bool = False

    @classmethod
    def of(cls, config: DetectConfig) -> OutputOptions:
        """What the flags of detect.py ask for."""
        return cls(
            images=not config.nosave,
            labels=config.save_txt,
            label_scores=config.save_conf,
            label_corners=config.save_format == 1,
            csv=config.save_csv,
            json=config.save_json,
            json_lines=config.save_jsonl,
            segment_seconds=config.segment,
            crops=config.save_crop,
            line_thickness=config.line_thickness,
            hide_labels=config.hide_labels,
            hide_scores=config.hide_conf,
        )


class _Sink(Protocol):
    """One kind of output."""

    def write(self, frame: Frame, stem: str, detections: Detections) -> None:
        """Add one frame; boxes in pixels of its image, `stem` names its files."""


class DetectionOutput(AbstractContextManager["DetectionOutput"]):
    """All the files of one run; tables and videos hold each frame as soon as it is written."""

    def __init__(self, folder: Path, class_names: Sequence[str], options: OutputOptions) -> None:
        """Open the tables that `options` asks for, in `folder`."""
        self._class_names, self._options = class_names, options
        self._names = OutputNames()
        self._cleanup = contextlib.ExitStack()
        self._sinks: list[_Sink] = []
        if options.labels:
            labels = LabelFiles(folder / "labels", options.label_scores, options.label_corners)
            self._sinks.append(labels)
        for path, table in _tables(folder, options):
            file = self._cleanup.enter_context(GrowingFile(path))
            self._sinks.append(table(file, class_names))
        if options.crops:
            self._sinks.append(Crops(folder / "crops", class_names))
        self._images = (
            self._cleanup.enter_context(AnnotatedImages(folder, options.segment_seconds))
            if options.images
            else None
        )

    def write(self, frame: Frame, detections: Detections) -> None:
        """Add one frame to every output.

        Args:
            frame: the image and where it comes from.
            detections: boxes in pixels of that image.
        """
        name = self._names.of(frame)
        stem = f"{name}_{frame.frame_index}" if frame.is_video else name
        for sink in self._sinks:
            sink.write(frame, stem, detections)
        if self._images is not None:
            self._images.write(frame, name, self.draw(frame, detections))

    def draw(self, frame: Frame, detections: Detections) -> ImageArray:
        """The frame's image with boxes and names on it."""
        return draw_detections(
            frame.image,
            detections,
            self._class_names,
            line_thickness=self._options.line_thickness,
            hide_labels=self._options.hide_labels,
            hide_scores=self._options.hide_scores,
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish the tables and videos, also after an error."""
        self._cleanup.__exit__(kind, error, traceback)


def _tables(
    folder: Path, options: OutputOptions
) -> Iterator[tuple[Path, Callable[[GrowingFile, Sequence[str]], _Sink]]]:
    if options.csv:
        yield folder / "predictions.csv", CsvTable
    if options.json:
        yield folder / "predictions.json", JsonTable
    if options.json_lines is not None:
        path = Path(options.json_lines)
        yield (path if path == STANDARD_OUTPUT else folder / path), JsonLines


class OutputNames:
    """A name for the files of each source file, so that no two write over each other.

    The first `a.jpg` is called `a`, the next file of that stem (another folder, another suffix)
    `a_2`. A video's frames are called `a_1`, `a_2`, ...; those names are kept free for them.
    """

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._taken: set[str] = set()
        self._videos: set[str] = set()

    def of(self, frame: Frame) -> str:
        """The name for the file (or stream) that this frame comes from."""
        if frame.position not in self._names:
            self._names[frame.position] = self._claim(frame)
        return self._names[frame.position]

    def _claim(self, frame: Frame) -> str:
        stem = name = short_stem(frame.path.stem)
        number = 1
        while self._clashes(name.casefold(), frame.is_video):
            number += 1
            name = f"{stem}_{number}"
        (self._videos if frame.is_video else self._taken).add(name.casefold())
        if name != stem:
            logger.info("%s: its files are called %s, %s was taken", frame.source, name, stem)
        elif stem != frame.path.stem:
            logger.info("%s: its files are called %s, its name is too long", frame.source, name)
        return name

    def _clashes(self, name: str, is_video: bool) -> bool:
        if name in self._taken or name in self._videos:
            return True
        if is_video:
            frames = re.compile(re.escape(name) + r"_\d+")
            return any(frames.fullmatch(taken) for taken in self._taken)
        video, _, number = name.rpartition("_")
        return number.isdigit() and video in self._videos


class Crops:
    """Each detection cut out, in a folder per class."""

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        """Choose where the class folders go."""
        self._folder = folder
        self._class_folders = [_folder_name(name) for name in class_names]
        self._written: set[Path] = set()

    def write(self, frame: Frame, stem: str, detections: Detections) -> None:
        """Write `<class>/<stem>.jpg`, `<stem>_2.jpg`, ... for one frame."""
        crops = cut_out(frame.image, detections.boxes)
        for crop, class_id in zip(crops, detections.class_ids, strict=True):
            if crop.size:
                folder = self._folder / self._class_folders[class_id]
                write_image(self._new_path(folder, stem), np.ascontiguousarray(crop))

    def _new_path(self, folder: Path, stem: str) -> Path:
        path, number = folder / f"{stem}.jpg", 1
        while path in self._written:
            number += 1
            path = folder / f"{stem}_{number}.jpg"
        self._written.add(path)
        return path


def _folder_name(class_name: str) -> str:
    """The class name without what no folder name may have; never `.`, `..` or empty."""
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", class_name).strip(". ")
    return short_stem(name) or "_"


def cut_out(image: ImageArray, boxes: FloatArray) -> list[ImageArray]:
    """What is in each of (N, 4) xyxy boxes and a margin around it; views of the image."""
    cxcywh = xyxy_to_cxcywh(boxes)
    cxcywh[:, 2:] = cxcywh[:, 2:] * CROP_SCALE + CROP_MARGIN
    pixels = clip_boxes(cxcywh_to_xyxy(cxcywh), image.shape[:2]).astype(int)
    return [image[top:bottom, left:right] for left, top, right, bottom in pixels]


class AnnotatedImages(AbstractContextManager["AnnotatedImages"]):
    """Images under their own file name, videos as mp4.

    A file's video is finished when the next one begins; those of streams grow side by side.
    """

    def __init__(self, folder: Path, segment_seconds: float | None = None) -> None:
        """Choose the folder.

        Args:
            folder: where they go.
            segment_seconds: begin a new file when the one of a video is this long.
        """
        self._folder, self._segment_seconds = folder, segment_seconds
        self._open: dict[int, _Segment] = {}

    def write(self, frame: Frame, name: str, drawn: ImageArray) -> None:
        """Write an image, or append to its video.

        Args:
            frame: where the image comes from.
            name: of the file, without suffix.
            drawn: the image to write, boxes already on it.
        """
        if not frame.is_video:
            suffix = writable_suffix(frame.path.suffix)
            write_image(self._folder / f"{name}{suffix}", drawn)
            return
        segment = self._segment(frame, name)
        seconds = None if frame.seconds is None else max(frame.seconds - segment.start, 0.0)
        segment.file.write(drawn, seconds)

    def _segment(self, frame: Frame, name: str) -> _Segment:
        """The file that this frame belongs to, opened where it is the first one in it."""
        start, number = frame.seconds or 0.0, 1
        current = self._open.get(frame.position)
        if current is not None:
            if self._segment_seconds is None or start - current.start < self._segment_seconds:
                return current
            current.file.close()
            number = current.number + 1
        elif not frame.is_live:
            self._close_all()
        part = f"_part{number}" if self._segment_seconds is not None else ""
        # The sound of a cut file would start anew in each part.
        sound = None if frame.is_live or self._segment_seconds is not None else frame.path
        path = self._folder / f"{name}{part}.mp4"
        file = VideoFile(path, frame.fps or ASSUMED_FPS, frame.image_hw, sound)
        self._open[frame.position] = _Segment(file, start if part or frame.is_live else 0.0, number)
        return self._open[frame.position]

    def _close_all(self) -> None:
        while self._open:
            self._open.popitem()[1].file.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish the videos, also after an error."""
        self._close_all()


@dataclass(frozen=True, slots=True)
class _Segment:
    """A video, where in its source it starts, and which part of it it is."""

    file: VideoFile
    start: float
    number: int
