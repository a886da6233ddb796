"""Which box of a frame is the same object as a box of the frame before: ByteTrack, of `trackers`.

Objects are followed through each video, and through each stream by itself; an image of a folder
has no frame before it. Every video begins with id 1.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from utils.detect.pipeline import Found, FrameDetector, StageClock
from utils.detect.zone_counts import FrameCounts, ZoneCounter
from utils.detect.zones import ZonesFile
from utils.errors import ConfigError, MissingPackageError, first_line
from utils.postprocess import PostprocessConfig
from utils.structures import NO_TRACK, Detections, Frame, IntArray, Skipped

logger = logging.getLogger(__name__)

LOW_SCORE = 0.1  # boxes above this continue a track; only those above --conf-thres are shown
LOST_SECONDS = 1.0  # a track that is not found for longer has ended
MIN_IOU = 0.3  # of a box and where its track is expected
ASSUMED_FPS = 30.0  # where a camera reports none


def rules_for_tracking(rules: PostprocessConfig) -> PostprocessConfig:
    """Which detections a tracker needs, given which are shown: those of a low score as well."""
    return replace(rules, score_threshold=min(rules.score_threshold, LOW_SCORE))


def with_tracker(
    detector: FrameDetector, zones: ZonesFile | None
) -> tuple[FrameDetector, ObjectTracker]:
    """A network as its tracker needs it, which is more than is shown, and the tracker.

    Raises:
        MissingPackageError: `trackers` is not installed.
        ConfigError: a line or zone names a class that is not detected.
    """
    tracker = ObjectTracker(detector.rules, detector.class_names, zones)
    return replace(detector, rules=rules_for_tracking(detector.rules)), tracker


class VideoTracker:
    """Follows the objects of one video or stream, each class by itself unless told otherwise."""

    def __init__(
        self, score_threshold: float, fps: float | None, *, class_agnostic: bool = False
    ) -> None:
        """Begin without any object.

        Args:
            score_threshold: detections above it are objects; those below only continue a track.
            fps: frames per second as they come; None where it is unknown.
            class_agnostic: an object may change its class.

        Raises:
            MissingPackageError: `trackers` is not installed.
        """
        self._library, self._tracker_class = _libraries()
        self._score_threshold, self._class_agnostic = score_threshold, class_agnostic
        self._fps = fps if fps else ASSUMED_FPS
        self._seconds, self._clock = 0.0, 0.0
        self._trackers: dict[int, Any] = {}
        self._ids: dict[tuple[int, int], int] = {}  # class and the library's id -> ours
        self._last_id = 0

    def follow(self, detections: Detections, seconds: float) -> Detections:
        """The objects of the next frame with their ids; those below the threshold are dropped.

        An object has NO_TRACK in the first frame that shows it: most false detections are gone in
        the next one.

        Args:
            detections: what `rules_for_tracking` lets through, boxes in pixels of the frame.
            seconds: when the frame is shown. Frames may be missing and intervals differ.
        """
        step = seconds - self._seconds
        # A clock that was set back, or stands still: as if one frame had passed.
        self._clock += step if step > 0 else 1 / self._fps
        self._seconds = seconds
        groups = (
            np.zeros(len(detections), np.int64) if self._class_agnostic else detections.class_ids
        )
        for group in np.unique(groups).tolist():
            if group not in self._trackers:
                self._trackers[group] = self._new_tracker()
        track_ids = np.full(len(detections), NO_TRACK, np.int64)
        finite = np.isfinite(detections.boxes).all(axis=1)  # the library refuses others
        for group, tracker in self._trackers.items():
            rows = np.flatnonzero((groups == group) & finite)
            track_ids[rows] = self._update(group, tracker, detections[rows])
        alive = {(group, each) for group, tracker in self._trackers.items()
                 for each in tracker.tracked_objects.tracker_id.tolist()}  # fmt: skip
        self._ids = {key: track_id for key, track_id in self._ids.items() if key in alive}
        shown = detections.scores > self._score_threshold
        return replace(detections, track_ids=track_ids)[shown]

    @property
    def alive(self) -> Collection[int]:
        """The ids of objects that may be found again."""
        return self._ids.values()

    def _new_tracker(self) -> Any:
        return self._tracker_class(
            lost_track_buffer=round(LOST_SECONDS * 30),  # it counts in frames of 1/30 s
            frame_rate=self._fps,
            track_activation_threshold=self._score_threshold,
            high_conf_det_threshold=self._score_threshold,
            minimum_iou_threshold=MIN_IOU,
        )

    def _update(self, group: int, tracker: Any, detections: Detections) -> IntArray:
        """(N,) ids of one group's detections."""
        given = self._library.Detections(
            xyxy=detections.boxes,
            confidence=detections.scores,
            class_id=detections.class_ids,
            data={"row": np.arange(len(detections))},
        )
        followed = tracker.update(given, timestamp=self._clock)
        track_ids = np.full(len(detections), NO_TRACK, np.int64)
        found = zip(followed.tracker_id.tolist(), followed.data.get("row", ()), strict=True)
        for library_id, row in sorted(found):  # new ones in the library's order
            if library_id >= 0:
                track_ids[row] = self._ids.setdefault((group, library_id), self._last_id + 1)
                self._last_id = max(self._last_id, int(track_ids[row]))
        return track_ids


def _libraries() -> tuple[Any, Any]:
    """The package `supervision`, whose detections `trackers` takes, and ByteTrack's class."""
    try:
        import supervision  # extras, here and below
        from trackers import ByteTrackTracker
    except ImportError as error:
        raise MissingPackageError(
            f"--track needs trackers: pip install -r requirements-track.txt ({first_line(error)})"
        ) from None
    return supervision, ByteTrackTracker


@dataclass(frozen=True, slots=True)
class SourceTracks:
    """What was followed in one video or stream.

    Attributes:
        source: its file or address.
        num_ids: how many objects got an id.
        counts: after the last frame; None without zones.
    """

    source: str
    num_ids: int
    counts: FrameCounts | None

    def as_report(self) -> dict[str, Any]:
        """As it is written to the `--report` file."""
        counts = {} if self.counts is None else self.counts.as_json()
        return {"source": self.source, "ids": self.num_ids, **counts}

    def as_text(self) -> str:
        """The summary on the console."""
        counts = "" if self.counts is None else f"; {self.counts.as_text()}"
        return f"{self.source}: {self.num_ids} ids{counts}"


@dataclass(slots=True)
class _Followed:
    """A video or stream that is being followed."""

    source: str
    tracker: VideoTracker
    counter: ZoneCounter | None
    num_ids: int = 0
    counts: FrameCounts | None = None
    _known: set[int] = field(default_factory=set)

    def add(self, found: Found) -> Found:
        """The next frame, with ids and counts."""
        detections = self.tracker.follow(found.detections, _seconds(found.frame))
        alive = self.tracker.alive
        if detections.track_ids is not None:
            new = set(detections.track_ids.tolist()) - self._known - {NO_TRACK}
            self.num_ids += len(new)
            self._known = (self._known | new) & set(alive)
        if self.counter is not None:
            self._fit(self.counter, found.frame.image_hw)
        if self.counter is not None:
            self.counts = self.counter.count(detections, alive)
        return replace(found, detections=detections, counts=self.counts)

    def _fit(self, counter: ZoneCounter, image_hw: tuple[int, int]) -> None:
        """Go on with images of another size, as a camera may send after an outage."""
        try:
            counter.fit(image_hw)
        except ConfigError as error:
            logger.warning("%s: nothing more is counted in it: %s", self.source, error)
            self.counter = self.counts = None

    def result(self) -> SourceTracks:
        return SourceTracks(self.source, self.num_ids, self.counts)


class ObjectTracker:
    """Follows the objects of every video and stream of a run, and counts them.

    Attributes:
        zones: lines and zones to count at; None where nothing is counted.
    """

    def __init__(
        self,
        rules: PostprocessConfig,
        class_names: Sequence[str],
        zones: ZonesFile | None = None,
    ) -> None:
        """Check that the libraries are there.

        Args:
            rules: which detections are shown.
            class_names: of the network.
            zones: lines and zones to count at; None counts nothing.

        Raises:
            MissingPackageError: `trackers` is not installed.
            ConfigError: a line or zone names a class that is not detected.
        """
        _libraries()
        for shape in (*zones.lines, *zones.zones) if zones else ():
            shape.class_ids(class_names, rules.classes)
        self._rules, self._class_names, self.zones = rules, class_names, zones
        self._open: dict[int, _Followed] = {}
        self._ended: list[SourceTracks] = []
        self._image_said = False

    def followed(
        self, results: Iterable[Found | Skipped], clock: StageClock
    ) -> Iterator[Found | Skipped]:
        """What was found, with ids and counts in frames of videos and streams.

        Args:
            results: in the order of their frames, detections as `rules_for_tracking`
                asks for them.
            clock: counts the seconds of the stage "track".

        Raises:
            ConfigError: a line or zone is outside of the first video's image.
        """
        for result in results:
            if isinstance(result, Skipped):
                yield result
            elif _is_moving(result.frame):
                with clock.stage("track"):
                    tracked = self._of(result.frame).add(result)
                yield tracked
            else:
                yield self._still(result)

    @property
    def tracks(self) -> tuple[SourceTracks, ...]:
        """What was followed so far, one per video or stream."""
        return *self._ended, *(each.result() for each in self._open.values())

    def _of(self, frame: Frame) -> _Followed:
        """The video of this frame; the one before it has ended, streams go on."""
        followed = self._open.get(frame.position)
        if followed is not None:
            return followed
        if not frame.is_live:
            while self._open:
                self._ended.append(self._open.popitem()[1].result())
        rules = self._rules
        tracker = VideoTracker(
            rules.score_threshold, frame.fps, class_agnostic=rules.class_agnostic
        )
        self._open[frame.position] = _Followed(frame.source, tracker, self._counter(frame))
        return self._open[frame.position]

    def _counter(self, frame: Frame) -> ZoneCounter | None:
        if self.zones is None:
            return None
        try:
            return ZoneCounter(self.zones, frame.image_hw, self._class_names, self._rules.classes)
        except ConfigError as error:
            if not self._ended and not self._open:
                raise
            logger.warning("%s: nothing is counted in it: %s", frame.source, error)
            return None

    def _still(self, found: Found) -> Found:
        """An image: what scores above the threshold, without ids."""
        if not self._image_said:
            self._image_said = True
            logger.warning("%s: an image by itself has no ids; --track follows objects through "
                           "videos and live sources", found.frame.source)  # fmt: skip
        shown = found.detections.scores > self._rules.score_threshold
        return replace(found, detections=found.detections[shown])


def _is_moving(frame: Frame) -> bool:
    """Whether it is from a video or a live source; pages of a file are images."""
    return frame.is_live or frame.fps is not None


def _seconds(frame: Frame) -> float:
    """When it is shown, from the start of its video or stream."""
    if frame.seconds is None or (frame.is_live and frame.frame_count is not None):
        # A video behind an address is read at any speed: the time it arrives says nothing.
        return (frame.frame_index - 1) / (frame.fps or ASSUMED_FPS)
    return frame.seconds
