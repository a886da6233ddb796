"""What a detection run has done: counts and times, on the console and as its result."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from utils.detect.comparison_output import ComparisonSummary
from utils.detect.pipeline import StageClock
from utils.errors import ConfigError, DatasetError
from utils.logs import PLAIN_INTERVAL_SECONDS
from utils.output_files import GrowingFile
from utils.structures import Detections, Frame, IntArray, NamedFile, Skipped, StreamState

ItemT = TypeVar("ItemT")
logger = logging.getLogger(__name__)

STAGES = ("decode", "preprocess", "inference", "postprocess", "write")
TERMINAL_INTERVAL_SECONDS = 1.0
DECIMALS = 3
PROGRESS_FILE = "progress.jsonl"


@dataclass(frozen=True, slots=True)
class DetectResult:
    """The outcome of a run.

    Attributes:
        frames: images and video frames processed.
        detections: in all of them.
        skipped: files that could not be read.
        ms_per_frame: stage -> milliseconds per frame.
        frames_per_second: over the whole run, loading the network not counted.
        folder: where the run's files are.
        streams: what happened to each live one.
        stopped_by: number of the signal that ended the run; None where it ended by itself.
        comparison: with a second network; None without one.
    """

    frames: int
    detections: int
    skipped: tuple[Skipped, ...]
    ms_per_frame: dict[str, float]
    frames_per_second: float
    folder: Path
    streams: tuple[StreamState, ...] = ()
    stopped_by: int | None = None
    comparison: ComparisonSummary | None = None

    def as_report(self) -> dict[str, Any]:
        """The content of the `--report` file."""
        skipped = [{"source": str(item.path), "reason": item.reason} for item in self.skipped]
        report = {
            "frames": self.frames,
            "detections": self.detections,
            "skipped": skipped,
            "ms_per_frame": {name: round(ms, DECIMALS) for name, ms in self.ms_per_frame.items()},
            "frames_per_second": round(self.frames_per_second, DECIMALS),
        }
        if self.streams:
            report["streams"] = [asdict(stream) for stream in self.streams]
        if self.comparison is not None:
            report["comparison"] = self.comparison.as_report()
        return report

    def as_text(self) -> str:
        """The summary on the console."""
        stages = ", ".join(f"{ms:.1f} {name}" for name, ms in self.ms_per_frame.items())
        skipped = f", {len(self.skipped)} files skipped" if self.skipped else ""
        cut = "" if self.stopped_by is None else "stopped; everything so far is saved\n"
        streams = "".join(f"{stream.as_text()}\n" for stream in self.streams)
        compared = "" if self.comparison is None else f"{self.comparison.as_text()}\n"
        return (
            f"{cut}{compared}{streams}{self.frames} frames, {self.detections} detections{skipped}\n"
            f"ms per frame: {stages}; {self.frames_per_second:.1f} frames/s\n"
            f"results are in {self.folder}"
        )


class DetectionLog:
    """Counts frames, detections and seconds; logs a line per image, for videos one now and then.

    Args:
        class_names: name of each class id.
        vid_stride: every so many-th frame of a video is processed; for the time left.
        strict: an unreadable file is an error.
    """

    def __init__(self, class_names: Sequence[str], vid_stride: int, *, strict: bool) -> None:
        self.class_names, self._vid_stride, self._strict = class_names, vid_stride, strict
        self.clock = StageClock(STAGES)
        self.frames = self.detections = 0
        self._skipped: list[Skipped] = []
        self._start = time.perf_counter()
        on_terminal = sys.stdout.isatty()
        self._interval = TERMINAL_INTERVAL_SECONDS if on_terminal else PLAIN_INTERVAL_SECONDS
        self._video_position = self._video_frames = 0
        self._video_start = self._last_line = 0.0

    def skip(self, item: Skipped) -> None:
        """Count a file that could not be read.

        Raises:
            DatasetError: the run is strict.
        """
        if self._strict:
            raise DatasetError(f"{item.path}: {item.reason}")
        logger.warning("%s: skipped: %s", item.path, item.reason)
        self._skipped.append(item)

    def add(
        self,
        frame: Frame,
        input_hw: tuple[int, int],
        detections: Detections,
        milliseconds: float,
    ) -> None:
        """Count and log one frame.

        Args:
            frame: the image and where it comes from.
            input_hw: height and width of the network input.
            detections: of this frame.
            milliseconds: of inference for this frame.
        """
        self.frames, self.detections = self.frames + 1, self.detections + len(detections)
        found = count_by_name(detections.class_ids, self.class_names) or "(no detections)"
        text = f"{input_hw[0]}x{input_hw[1]} {found}, {milliseconds:.1f}ms"
        position = f"{frame.position}/{frame.num_positions}"
        if not frame.is_video:
            logger.info("image %s %s: %s", position, frame.source, text)
            return
        rate = self._video_rate(frame)
        if rate is not None:
            count = f"/{frame.frame_count}" if frame.frame_count else ""
            index = f"{frame.frame_index}{count}"
            logger.info("video %s (%s) %s: %s%s", position, index, frame.source, text, rate)

    def result(
        self,
        folder: Path,
        streams: Sequence[StreamState] = (),
        stopped_by: int | None = None,
        comparison: ComparisonSummary | None = None,
    ) -> DetectResult:
        """What was done so far; see DetectResult."""
        seconds = max(time.perf_counter() - self._start, 1e-9)
        return DetectResult(
            frames=self.frames,
            detections=self.detections,
            skipped=tuple(self._skipped),
            ms_per_frame=self.clock.milliseconds_per(self.frames),
            frames_per_second=self.frames / seconds,
            folder=folder,
            streams=tuple(streams),
            stopped_by=stopped_by,
            comparison=comparison,
        )

    def _video_rate(self, frame: Frame) -> str | None:
        """Frames per second and time left; None where no line is due yet."""
        now = time.monotonic()
        if frame.position != self._video_position:
            self._video_position, self._video_frames = frame.position, 1
            self._video_start = self._last_line = now
            return ""
        self._video_frames += 1
        is_last = frame.frame_index == frame.frame_count
        if now - self._last_line < self._interval and not is_last:
            return None
        self._last_line = now
        per_second = (self._video_frames - 1) / max(now - self._video_start, 1e-9)
        if not frame.frame_count:
            return f", {per_second:.1f} frames/s"
        left = (frame.frame_count - frame.frame_index) / self._vid_stride / per_second
        return f", {per_second:.1f} frames/s, {left:.0f} s left"


def count_by_name(class_ids: IntArray, class_names: Sequence[str]) -> str:
    """`4 persons, 1 bus`, classes in the order of their ids; empty for no detections."""
    counts = zip(*np.unique(class_ids, return_counts=True), strict=True)
    return ", ".join(_counted(count, class_names[class_id]) for class_id, count in counts)


def _counted(count: int, name: str) -> str:
    """`1 bus`, `2 buses`, `2 benches`, `2 canaries`; `2 persons`, as YOLOv5 prints it."""
    if count > 1 and re.search("[^aeiou]y$", name):
        name = f"{name[:-1]}ies"
    elif count > 1:
        name += "es" if name.endswith(("s", "x", "z", "ch", "sh")) else "s"
    return f"{count} {name}"


class Progress(AbstractContextManager["Progress"]):
    """`progress.jsonl`: which outputs come from which frame, and how far the run has come.

    The first line has the options; each further one a frame and the sizes that the tables have
    after it, so that a cut run can go on behind its last whole frame. The last line of a finished
    run says so. Of a live source each stream has one line.

    Attributes:
        done: position and frame of the last one written; (0, 0) at the start.
        sizes: of the tables after it, in bytes.
        finished: nothing is left to do.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        """Begin anew.

        Args:
            folder: of the run.
            options: that a run which goes on must have, too.
        """
        self.done, self.sizes, self.finished = (0, 0), dict[str, int](), False
        self._path = folder / PROGRESS_FILE
        self._options = json.loads(json.dumps(options))
        self._kept, self._is_empty = 0, True  # bytes of an older file; no frame is noted
        self._streams: set[int] = set()
        self._file: GrowingFile | None = None

    def resume(self, files: Sequence[NamedFile], *, whole_videos: bool) -> None:
        """Go on where the run of this folder was cut.

        Args:
            files: of the source.
            whole_videos: a video that was being written begins anew.

        Raises:
            ConfigError: the run had other options or files.
        """
        lines = self._path.read_bytes().splitlines(keepends=True) if self._path.exists() else []
        if not lines or not lines[0].endswith(b"\n"):
            return
        self._check_options(json.loads(lines[0])["options"])
        ends, entries = [len(lines[0])], list[dict[str, Any]]()
        for line in lines[1:]:
            # A power cut may have kept this line and not what the tables had.
            entry = json.loads(line) if line.endswith(b"\n") else {}
            if not entry or not self._has_tables(entry["sizes"]):
                break
            self._check_file(entry, files)
            entries.append(entry)
            ends.append(ends[-1] + len(line))
        self.finished = bool(entries) and entries[-1]["position"] is None
        if self.finished:
            entries.pop()
        elif whole_videos and entries and entries[-1]["video"]:
            position = entries[-1]["position"]
            while entries and entries[-1]["position"] == position:
                entries.pop()
        self._kept = ends[len(entries)]
        if entries:
            self.done = entries[-1]["position"], entries[-1]["frame"]
            self.sizes = entries[-1]["sizes"]
        if self.finished:
            self.done = (len(files) + 1, 0)

    def __enter__(self) -> Progress:
        """Open the file."""
        self._file = GrowingFile(self._path, self._kept)
        self._is_empty = not self._kept
        if not self._kept:
            self._write({"options": self._options})
        return self

    def add(self, frame: Frame, name: str, sizes: Mapping[str, int]) -> None:
        """Note a frame whose outputs are written; of a live stream only the first one.

        Args:
            frame: the image and where it comes from.
            name: of its outputs.
            sizes: of the tables, by their file names.
        """
        self._is_empty = False
        if frame.is_live and frame.position in self._streams:
            return
        if frame.is_live:
            self._streams.add(frame.position)
        self._write({
            "output": name, "source": frame.source, "position": frame.position,
            "frame": frame.frame_index, "video": frame.is_video, "sizes": sizes,
        })  # fmt: skip

    def finish(self) -> None:
        """Note that nothing is left to do."""
        self._write({"position": None, "sizes": {}})

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file; one that notes no frame goes after an error."""
        if self._file is not None:
            self._file.__exit__(kind, error, traceback)
        if kind is not None and self._is_empty:
            self._path.unlink(missing_ok=True)

    def _write(self, entry: Mapping[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(entry).encode() + b"\n")

    def _has_tables(self, sizes: Mapping[str, int]) -> bool:
        paths = [(self._path.with_name(name), size) for name, size in sizes.items()]
        return all(path.is_file() and path.stat().st_size >= size for path, size in paths)

    def _check_options(self, before: Mapping[str, Any]) -> None:
        for name, value in self._options.items():
            if before.get(name) != value:
                flag = f"--{name.replace('_', '-')}"
                raise ConfigError(
                    f"--resume: {self._path.parent} was begun with {flag} {before.get(name)}, "
                    f"not {value}; give the same options, or begin anew without --resume"
                )

    def _check_file(self, entry: Mapping[str, Any], files: Sequence[NamedFile]) -> None:
        position = entry["position"]
        if position is None:
            return
        found = files[position - 1].source if position <= len(files) else "nothing"
        if found != entry["source"]:
            raise ConfigError(
                f"--resume: file {position} of the source was {entry['source']} and is now "
                f"{found}; begin anew without --resume"
            )


def cut_run(project: str, name: str) -> Path | None:
    """The newest of the run folders `name`, `name2`, ... in `project` that notes its progress."""
    numbered = re.compile(re.escape(name) + r"\d*")
    found = [path for path in Path(project).glob(f"*/{PROGRESS_FILE}")
             if numbered.fullmatch(path.parent.name)]  # fmt: skip
    return max(found, key=lambda path: path.stat().st_mtime_ns).parent if found else None
