"""The values that flow between the rooms: targets, samples, batches, frames, detections.

Shapes: B batch, H W pixels, N boxes of one image, M boxes of a whole batch, C classes.
Boxes are xyxy in float32 pixels; of which image (original or input) is said at each field.
This module needs numpy alone, so that detection works where torch is not installed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from utils.letterbox import Letterbox
from utils.logs import counted

if TYPE_CHECKING:
    pass

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
ImageArray = npt.NDArray[np.uint8]
SizeArray = npt.NDArray[np.float64]  # (N, 2) width and height
# The shape of one object: polygons, (P, 2) each, in pixels; none where the labels have only boxes.
Outline = tuple[FloatArray, ...]
NO_TRACK = -1  # the track id of an object that has been seen once


@dataclass(frozen=True, slots=True)
class Targets:
    """The labelled objects of one image.

    Attributes:
        boxes: (N, 4) float32 xyxy in pixels.
        class_ids: (N,) int64.
    """

    boxes: FloatArray
    class_ids: IntArray

    @classmethod
    def empty(cls) -> Targets:
        """Targets of an image without objects."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))

    def __len__(self) -> int:
        """The number of objects."""
        return len(self.boxes)

    def __getitem__(self, keep: npt.NDArray[np.bool_] | IntArray) -> Targets:
        """The objects chosen by a mask or by indices."""
        return Targets(self.boxes[keep], self.class_ids[keep])

    @staticmethod
    def concatenate(parts: list[Targets]) -> Targets:
        """All objects of several images, in order."""
        if not parts:
            return Targets.empty()
        return Targets(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.class_ids for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of a data set and what is labelled in it, as the files say.

    Attributes:
        path: where the image is.
        image_hw: its height and width in pixels, after EXIF orientation.
        targets: the objects to learn and to find, boxes in pixels of the original image.
        image_id: its number in COCO results (its COCO id, or its index in the list).
        areas: (N,) float32, by which COCO sorts objects (the segment's where labels have one).
        crowd: boxes (K, 4) and class ids (K,) of regions in which detections do not count.
        outlines: one per object, or empty where they were not asked for.
    """

    path: Path
    image_hw: tuple[int, int]
    targets: Targets
    image_id: int
    areas: FloatArray
    crowd: Targets
    outlines: tuple[Outline, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """One image ready to be put into a batch.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        targets: boxes in pixels of `image`.
        image_id: as in ImageRecord.
        letterbox: how `image` was made from the original; None after free augmentation.
        path: the file the image came from (the first one, for a mosaic).
    """

    image: ImageArray
    targets: Targets
    image_id: int
    letterbox: Letterbox | None = None
    path: Path = Path()


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What was found in one image, best score first.

    Attributes:
        boxes: (N, 4) float32 xyxy in pixels.
        scores: (N,) float32 in 0-1, objectness times class probability.
        class_ids: (N,) int64.
        track_ids: (N,) int64, the same number for the same object in every frame of its video, from
            1; NO_TRACK where there is none yet. None where nothing is tracked.
    """

    boxes: FloatArray
    scores: FloatArray
    class_ids: IntArray
    track_ids: IntArray | None = None

    @classmethod
    def empty(cls) -> Detections:
        """Nothing found."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    def __len__(self) -> int:
        """The number of detections."""
        return len(self.boxes)

    def __getitem__(self, keep: npt.NDArray[np.bool_] | IntArray | slice) -> Detections:
        """The detections chosen by a mask, by indices or by a slice."""
        track_ids = None if self.track_ids is None else self.track_ids[keep]
        return Detections(self.boxes[keep], self.scores[keep], self.class_ids[keep], track_ids)

    def in_original(self, letterbox: Letterbox) -> Detections:
        """The same detections with boxes in pixels of the original image, clipped to it."""
        return replace(self, boxes=letterbox.undo_boxes(self.boxes))


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image of a file, a video or a stream, for detection.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        source: the file, or the address of the stream (without its password).
        path: the file; for a stream, a name that can serve as a file name.
        position: the number of its file among the source's files, from 1.
        num_positions: how many files the source has.
        frame_index: its number in the video, from 1; 1 for an image.
        frame_count: frames the video says it has; 1 for an image, None where it is unknown.
        fps: yielded frames per second of the video or stream; None for an image.
        is_video: from a video or stream.
        seconds: when it is shown, from the start of the video or stream; None for an image.
        captured: when a live frame was received, seconds since 1970; None for a file's.
    """

    image: ImageArray
    source: str
    path: Path
    position: int
    num_positions: int
    frame_index: int
    frame_count: int | None
    fps: float | None
    is_video: bool
    seconds: float | None = None
    captured: float | None = None

    @property
    def is_live(self) -> bool:
        """Whether it comes from a camera or stream."""
        return self.captured is not None

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True, slots=True)
class FittedFrame:
    """A frame, its number in the run from 0, and how it becomes a network input."""

    number: int
    frame: Frame
    letterbox: Letterbox


class NamedFile(Protocol):
    """A file of a source."""

    @property
    def position(self) -> int:
        """Its number among the source's files, from 1."""

    @property
    def path(self) -> Path:
        """What its outputs are called after."""

    @property
    def source(self) -> str:
        """Its path or address."""

    @property
    def is_video(self) -> bool:
        """Whether it has several frames."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that could not be read, and why; `is_said`: a log line has named its kind."""

    path: Path
    reason: str
    is_said: bool = False


@dataclass(slots=True)
class StreamState:
    """What happened to a stream so far.

    Attributes:
        source: its address, without password.
        frames: how many the network got.
        dropped: how many were replaced by a newer one before the network was ready.
        outages: how often it stopped sending, the wait for its first frame not counted.
        seconds_away: how long it sent nothing, that wait included.
        gave_up: whether it is no longer tried.
    """

    source: str
    frames: int = 0
    dropped: int = 0
    outages: int = 0
    seconds_away: float = 0.0
    gave_up: bool = False

    def as_text(self) -> str:
        """The summary on the console."""
        outages = counted(self.outages, "outage")
        away = f", {outages}, {self.seconds_away:.0f} s away" if self.outages else ""
        end = ", given up" if self.gave_up else ""
        return f"{self.source}: {counted(self.frames, 'frame')}, {self.dropped} dropped{away}{end}"
