"""The files a detection run writes: labels, tables, crops, images and videos with boxes on them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from utils.detect.comparison import Comparison
from utils.detect.comparison_image import ComparisonStyle
from utils.detect.comparison_output import ComparedFiles, ComparisonOutput
from utils.detect.crops import Crops
from utils.detect.output_names import OutputNames
from utils.detect.run_log import Progress
from utils.detect.tables import CsvTable, JsonLines, JsonTable, LabelFiles
from utils.detect_config import DetectConfig
from utils.draw import draw_detections
from utils.output_files import (
    STANDARD_OUTPUT,
    GrowingFile,
    writable_suffix,
    write_image,
)
from utils.structures import Detections, Frame, ImageArray, NamedFile
from utils.video_output import VideoFile

ASSUMED_FPS = 30.0
COMPARE_CSV, COMPARE_JSON = "compare.csv", "compare.json"


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
    """All the files of one run; tables and videos hold each frame as soon as it is written.

    Attributes:
        comparison: what is written about a second network; None without one.
    """

    def __init__(
        self,
        folder: Path,
        class_names: Sequence[str],
        options: OutputOptions,
        files: Sequence[NamedFile] = (),
        progress: Progress | None = None,
        compared: ComparedFiles | None = None,
    ) -> None:
        """Open the tables that `options` asks for.

        Args:
            folder: where everything goes.
            class_names: name of each class id.
            options: what is written.
            files: all that the source has, also those of other parts; none of live ones.
            progress: of a cut run, whose tables are continued; it notes each frame.
            compared: two networks to write `compare.csv` about; images then show both.
        """
        self._class_names, self._options = class_names, options
        self._names = OutputNames(files)
        self._progress = progress
        self._is_empty = progress is None or not progress.sizes
        self._tables: list[GrowingFile] = []
        self._cleanup = contextlib.ExitStack()
        self._sinks: list[_Sink] = []
        if options.labels:
            labels = LabelFiles(folder / "labels", options.label_scores, options.label_corners)
            self._sinks.append(labels)
        for path, table in _tables(folder, options):
            self._sinks.append(table(self._open(path), class_names))
        self.comparison: ComparisonOutput | None = None
        if compared is not None:
            look = options.line_thickness, options.hide_labels, options.hide_scores
            style = ComparisonStyle(compared.names(), class_names, *look)
            self.comparison = ComparisonOutput(self._open(folder / COMPARE_CSV), compared, style)
        if options.crops:
            self._sinks.append(Crops(folder / "crops", class_names, self._names.__contains__))
        self._images = (
            self._cleanup.enter_context(AnnotatedImages(folder, options.segment_seconds))
            if options.images
            else None
        )

    def _open(self, path: Path) -> GrowingFile:
        """A table: a new one, or that of a cut run."""
        kept = self._progress.sizes.get(path.name, 0) if self._progress is not None else 0
        file = self._cleanup.enter_context(GrowingFile(path, kept))
        if path != STANDARD_OUTPUT:
            self._tables.append(file)
        return file

    def write(
        self, frame: Frame, detections: Detections, comparison: Comparison | None = None
    ) -> None:
        """Add one frame to every output.

        Args:
            frame: the image and where it comes from.
            detections: boxes in pixels of that image.
            comparison: with those of a second network.
        """
        self._is_empty = False
        name = self._names.of(frame)
        stem = f"{name}_{frame.frame_index}" if frame.is_video else name
        for sink in self._sinks:
            sink.write(frame, stem, detections)
        if self.comparison is not None and comparison is not None:
            self.comparison.write(frame, stem, comparison)
        if self._images is not None:
            self._images.write(frame, name, self.draw(frame, detections, comparison))
        if self._progress is not None:
            self._progress.add(frame, stem, {file.path.name: file.tell() for file in self._tables})

    def draw(
        self, frame: Frame, detections: Detections, comparison: Comparison | None = None
    ) -> ImageArray:
        """The frame's image with boxes and names on it, or with both networks' side by side."""
        if self.comparison is not None and comparison is not None:
            return self.comparison.draw(frame, comparison)
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
        """Finish the tables and videos, also after an error; empty ones are then removed."""
        self._cleanup.__exit__(kind, error, traceback)
        if kind is not None and self._is_empty:
            for file in self._tables:
                file.path.unlink(missing_ok=True)


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
        if frame.fps is None and not frame.is_live:  # pages are images, too
            page = f"_{frame.frame_index}" if frame.is_video else ""
            suffix = writable_suffix(frame.path.suffix)
            write_image(self._folder / f"{name}{page}{suffix}", drawn)
            return
        segment = self._segment(frame, name, (drawn.shape[0], drawn.shape[1]))
        seconds = None if frame.seconds is None else max(frame.seconds - segment.start, 0.0)
        segment.file.write(drawn, seconds)

    def _segment(self, frame: Frame, name: str, image_hw: tuple[int, int]) -> _Segment:
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
        is_cut = bool(part) or frame.frame_index > 1
        sound = None if frame.is_live or is_cut else frame.path
        path = self._folder / f"{name}{part}.mp4"
        file = VideoFile(path, frame.fps or ASSUMED_FPS, image_hw, sound)
        self._open[frame.position] = _Segment(
            file, start if is_cut or frame.is_live else 0.0, number
        )
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
