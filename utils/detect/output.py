"""The files a detection run writes: labels, tables, crops, images and videos with boxes on them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from utils.detect.output_options import OutputOptions, Sink
from utils.growing_file import GrowingFile
from utils.image_output import writable_suffix, write_image
from utils.output_files import STANDARD_OUTPUT, short_stem
from utils.structures import Detections, Frame, ImageArray, NamedFile

if TYPE_CHECKING:
    from utils.detect.annotated_videos import AnnotatedVideos
    from utils.detect.comparison import Comparison
    from utils.detect.comparison_output import ComparedFiles, ComparisonOutput
    from utils.detect.progress import Progress
    from utils.detect.zone_counts import FrameCounts

logger = logging.getLogger(__name__)

MAX_RENAMED_SAID = 10
COMPARE_CSV = "compare.csv"


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
        watchers: Sequence[Sink] = (),
    ) -> None:
        """Open the tables that `options` asks for.

        Args:
            folder: where everything goes.
            class_names: name of each class id.
            options: what is written.
            files: all that the source has, also those of other parts; none of live ones.
            progress: of a cut run, whose tables are continued; it notes each frame.
            compared: two networks to write `compare.csv` about; images then show both.
            watchers: get each frame, too, after the tables.
        """
        self._folder, self._class_names, self._options = folder, class_names, options
        self._names = OutputNames(files)
        self._progress = progress
        self._is_empty = progress is None or not progress.sizes
        self._tables: list[GrowingFile] = []
        self._cleanup = contextlib.ExitStack()
        self._sinks = [*self._open_sinks(folder), *watchers]
        self.comparison = None if compared is None else self._open_comparison(folder, compared)
        images = AnnotatedImages(folder, options.segment_seconds)
        self._images = self._cleanup.enter_context(images) if options.images else None

    def _open_sinks(self, folder: Path) -> Sequence[Sink]:
        """The files of data; many runs have none, and load nothing for them."""
        if not self._options.have_data:
            return ()
        from utils.detect.sinks import opened_sinks

        return opened_sinks(
            folder, self._options, self._class_names, self._open, self._names.__contains__
        )

    def _open_comparison(self, folder: Path, compared: ComparedFiles) -> ComparisonOutput:
        from utils.detect.comparison_image import ComparisonStyle
        from utils.detect.comparison_output import ComparisonOutput

        options = self._options
        look = options.line_thickness, options.hide_labels, options.hide_scores
        style = ComparisonStyle(compared.names(), self._class_names, *look)
        return ComparisonOutput(self._open(folder / COMPARE_CSV), compared, style)

    def _open(self, path: Path) -> GrowingFile:
        """A table: a new one, or that of a cut run."""
        kept = self._progress.sizes.get(self._key(path), 0) if self._progress is not None else 0
        file = self._cleanup.enter_context(GrowingFile(path, kept))
        if path != STANDARD_OUTPUT:
            self._tables.append(file)
        return file

    def _key(self, path: Path) -> str:
        """A table's path from the run's folder, which may be moved; elsewhere its whole path."""
        in_folder = path.is_relative_to(self._folder)
        return (path.relative_to(self._folder) if in_folder else path).as_posix()

    def write(
        self,
        frame: Frame,
        detections: Detections,
        counts: FrameCounts | None = None,
        comparison: Comparison | None = None,
    ) -> None:
        """Add one frame to every output.

        Args:
            frame: the image and where it comes from.
            detections: boxes in pixels of that image.
            counts: at lines and in zones after this frame; None where nothing is counted.
            comparison: with what a second network found; None without one.
        """
        self._is_empty = False
        name = self._names.of(frame)
        stem = f"{name}_{frame.frame_index}" if frame.is_video else name
        for sink in self._sinks:
            sink.write(frame, stem, detections, counts)
        if self.comparison is not None and comparison is not None:
            self.comparison.write(frame, stem, comparison)
        if self._images is not None:
            self._images.write(frame, name, self.draw(frame, detections, counts, comparison))
        if self._progress is not None:
            self._progress.add(
                frame, stem, {self._key(file.path): file.tell() for file in self._tables}
            )

    def draw(
        self,
        frame: Frame,
        detections: Detections,
        counts: FrameCounts | None = None,
        comparison: Comparison | None = None,
    ) -> ImageArray:
        """The frame's image with boxes and names on it, and lines and zones with their counts.

        With two networks, both results side by side.
        """
        if self.comparison is not None and comparison is not None:
            return self.comparison.draw(frame, comparison)
        return self._options.draw(frame, detections, self._class_names, counts)

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


class OutputNames:
    """A name for the files of each source file, so that no two write over each other.

    The first `a.jpg` is called `a`, the next file of that stem (another folder, another suffix)
    `a_2`. A video's frames are called `a_1`, `a_2`, ...; those names are kept free for them, and
    an image of the video's stem is called `a_image`.
    Named in the order of the whole source, a file has the same name in any part of it.
    """

    def __init__(self, files: Sequence[NamedFile] = ()) -> None:
        """Name the files that are known in advance; a stream gets its name with its first frame."""
        self._names: dict[int, str] = {}
        self._last_numbers: dict[str, int] = {}
        self._owners: dict[str, NamedFile] = {}
        self._numbered: set[str] = set()  # the parts before `_1`, `_2`, ... of names
        self._num_renamed = 0
        for file in files:
            self._claim(file)
        if self._num_renamed > MAX_RENAMED_SAID:
            logger.info("%d files are called so; progress.jsonl tells which", self._num_renamed)

    def __contains__(self, name: str) -> bool:
        """Whether a file has this name."""
        return name.casefold() in self._owners

    def of(self, frame: Frame) -> str:
        """The name for the file (or stream) that this frame comes from."""
        if frame.position not in self._names:
            self._claim(frame)
        return self._names[frame.position]

    def _claim(self, file: NamedFile) -> None:
        stem = wanted = short_stem(file.path.stem)
        owner = self._owners.get(stem.casefold())
        if owner is not None and owner.is_video and not file.is_video:
            stem += "_image"  # a number after it would be a frame of the video
        name = stem
        number = self._last_numbers.get(stem, 1)  # the ones before it are taken
        while self._clashes(name.casefold(), file):
            number += 1
            name = f"{stem}_{number}"
        self._last_numbers[stem] = number
        self._names[file.position], self._owners[name.casefold()] = name, file
        before, _, last = name.casefold().rpartition("_")
        if last.isdigit() and not file.is_video:
            self._numbered.add(before)
        if name == file.path.stem:
            return
        self._num_renamed += 1
        if self._num_renamed <= MAX_RENAMED_SAID:
            why = f"{wanted} was taken" if name != wanted else "its name is too long"
            logger.info("%s: its files are called %s, %s", file.path, name, why)

    def _clashes(self, name: str, file: NamedFile) -> bool:
        if name in self._owners:
            return True
        if name in self._numbered and file.is_video:
            return True
        video, _, number = name.rpartition("_")
        owner = self._owners.get(video) if number.isdigit() else None
        return owner is not None and owner.is_video and not file.is_video


class AnnotatedImages(AbstractContextManager["AnnotatedImages"]):
    """Images under their own file name, videos as mp4."""

    def __init__(self, folder: Path, segment_seconds: float | None = None) -> None:
        """Choose the folder.

        Args:
            folder: where they go.
            segment_seconds: begin a new file when the one of a video is this long.
        """
        self._folder, self._segment_seconds = folder, segment_seconds
        self._videos: AnnotatedVideos | None = None

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
        if self._videos is None:
            from utils.detect.annotated_videos import AnnotatedVideos  # images need no encoder

            self._videos = AnnotatedVideos(self._folder, self._segment_seconds)
        self._videos.write(frame, name, drawn)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish the videos, also after an error."""
        if self._videos is not None:
            self._videos.close()
