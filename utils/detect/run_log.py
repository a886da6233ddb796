"""What a detection run has done: counts and times, on the console and as its result."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.detect.pipeline import STAGES, StageClock
from utils.errors import DatasetError
from utils.logs import PLAIN_INTERVAL_SECONDS, counted, is_terminal
from utils.structures import Detections, Frame, IntArray, Skipped, StreamState

if TYPE_CHECKING:
    from utils.detect.comparison_output import ComparisonSummary
    from utils.detect.tracking import SourceTracks

logger = logging.getLogger(__name__)

RUN_STAGES = (*STAGES, "write")
TRACKED_STAGES = (*STAGES, "track", "write")
TERMINAL_INTERVAL_SECONDS = 1.0
DECIMALS = 3
MAX_TRACKED_SAID = 10  # videos and streams in the summary


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
        tracks: what was followed in each video or stream.
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
    tracks: tuple[SourceTracks, ...] = ()
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
        if self.tracks:
            report["tracks"] = [each.as_report() for each in self.tracks]
        if self.comparison is not None:
            report["comparison"] = self.comparison.as_report()
        return report

    def as_text(self) -> str:
        """The summary on the console."""
        stages = ", ".join(f"{ms:.1f} {name}" for name, ms in self.ms_per_frame.items())
        skipped = f", {counted(len(self.skipped), 'file')} skipped" if self.skipped else ""
        cut = "" if self.stopped_by is None else "stopped; everything so far is saved\n"
        streams = "".join(f"{stream.as_text()}\n" for stream in self.streams)
        tracks = tracks_text(self.tracks)
        compared = "" if self.comparison is None else f"{self.comparison.as_text()}\n"
        return (
            f"{cut}{compared}{streams}{tracks}{counted(self.frames, 'frame')}, "
            f"{counted(self.detections, 'detection')}{skipped}\n"
            f"ms per frame: {stages}; {self.frames_per_second:.1f} frames/s\n"
            f"results are in {self.folder}"
        )


def tracks_text(tracks: Sequence[SourceTracks]) -> str:
    """What was followed, on the console; nothing for none."""
    lines = [each.as_text() for each in tracks[:MAX_TRACKED_SAID]]
    if len(tracks) > MAX_TRACKED_SAID:
        lines.append(f"{len(tracks) - MAX_TRACKED_SAID} more videos; --report lists them")
    return "".join(f"{line}\n" for line in lines)


class DetectionLog:
    """Counts frames, detections and seconds; logs a line per image, for videos one now and then.

    Args:
        class_names: name of each class id.
        vid_stride: every so many-th frame of a video is processed; for the time left.
        strict: an unreadable file is an error.
        tracks: objects are tracked, which is a stage of its own.
    """

    def __init__(
        self, class_names: Sequence[str], vid_stride: int, *, strict: bool, tracks: bool = False
    ) -> None:
        self.class_names, self._vid_stride, self._strict = class_names, vid_stride, strict
        self.clock = StageClock(TRACKED_STAGES if tracks else RUN_STAGES)
        self.frames = self.detections = 0
        self._skipped: list[Skipped] = []
        self._start = time.perf_counter()
        on_terminal = is_terminal(sys.stdout)
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
        if not item.is_said:
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
    return ", ".join(counted(count, class_names[class_id]) for class_id, count in counts)
