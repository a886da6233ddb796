"""The values that flow between the rooms: targets, samples, batches, frames, detections.

Shapes: B batch, H W pixels, N boxes of one image, M boxes of a whole batch, C classes.
Boxes are xyxy in float32 pixels; of which image (original or input) is said at each field.
This module needs numpy alone, so that detection works where torch is not installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from utils.letterbox import Letterbox
from utils.logs import counted

if TYPE_CHECKING:
    import torch

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
    """One image ready to be collated.

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


BatchT = TypeVar("BatchT", bound="LabelledBatch")


class LabelledBatch(Protocol):
    """Images of one size with their labels, as tensors or as arrays."""

    @property
    def image_ids(self) -> tuple[int, ...]:
        """As in ImageRecord, one per image."""

    @property
    def letterboxes(self) -> tuple[Letterbox | None, ...]:
        """One per image (None for augmented training images)."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files the images came from."""

    def image(self, number: int) -> ImageArray:
        """Image `number` of the batch, from 0: (H, W, 3) uint8 RGB."""

    def targets(self, number: int) -> Targets:
        """What is labelled in it, boxes in pixels of the network input."""

    def parts(
        self: BatchT, number: int, images: Sequence[ImageArray], letterboxes: Sequence[Letterbox]
    ) -> BatchT:
        """Letterboxed parts of image `number` as a batch without labels."""


@dataclass(frozen=True, slots=True)
class ArrayBatch:
    """Several samples, at least one, for networks that run without torch."""

    samples: tuple[Sample, ...]

    @property
    def image_ids(self) -> tuple[int, ...]:
        """See `LabelledBatch`."""
        return tuple(sample.image_id for sample in self.samples)

    @property
    def letterboxes(self) -> tuple[Letterbox | None, ...]:
        """See `LabelledBatch`."""
        return tuple(sample.letterbox for sample in self.samples)

    @property
    def paths(self) -> tuple[Path, ...]:
        """See `LabelledBatch`."""
        return tuple(sample.path for sample in self.samples)

    def image(self, number: int) -> ImageArray:
        """See `LabelledBatch`."""
        return self.samples[number].image

    def targets(self, number: int) -> Targets:
        """See `LabelledBatch`."""
        return self.samples[number].targets

    def parts(
        self, number: int, images: Sequence[ImageArray], letterboxes: Sequence[Letterbox]
    ) -> ArrayBatch:
        """See `LabelledBatch`."""
        whole = replace(self.samples[number], targets=Targets.empty())
        made = zip(images, letterboxes, strict=True)
        return ArrayBatch(tuple(replace(whole, image=image, letterbox=box) for image, box in made))


@dataclass(frozen=True, slots=True)
class Batch:
    """Several samples as tensors.

    Attributes:
        images: (B, 3, H, W) uint8 RGB as loaded; the engine makes them float 0-1 on the device.
        image_index: (M,) int64, which image of the batch each object belongs to.
        class_ids: (M,) int64.
        boxes: (M, 4) float32 xyxy in pixels of the network input.
        image_ids: as in ImageRecord, one per image.
        letterboxes: one per image (None for augmented training images).
        paths: the files the images came from.
    """

    images: torch.Tensor
    image_index: torch.Tensor
    class_ids: torch.Tensor
    boxes: torch.Tensor
    image_ids: tuple[int, ...]
    letterboxes: tuple[Letterbox | None, ...]
    paths: tuple[Path, ...]

    def image(self, number: int) -> ImageArray:
        """See `LabelledBatch`."""
        return np.ascontiguousarray(self.images[number].cpu().numpy().transpose(1, 2, 0))

    def targets(self, number: int) -> Targets:
        """See `LabelledBatch`."""
        mine = self.image_index == number
        return Targets(self.boxes[mine].cpu().numpy(), self.class_ids[mine].cpu().numpy())

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=True),
            image_index=self.image_index.to(device, non_blocking=True),
            class_ids=self.class_ids.to(device, non_blocking=True),
            boxes=self.boxes.to(device, non_blocking=True),
        )

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory (called by the data loader)."""
        return replace(
            self,
            images=self.images.pin_memory(),
            image_index=self.image_index.pin_memory(),
            class_ids=self.class_ids.pin_memory(),
            boxes=self.boxes.pin_memory(),
        )

    def parts(
        self, number: int, images: Sequence[ImageArray], letterboxes: Sequence[Letterbox]
    ) -> Batch:
        """See `LabelledBatch`."""
        stacked = np.stack(images).transpose(0, 3, 1, 2)
        return Batch(
            images=self.images.new_tensor(stacked),
            image_index=self.image_index[:0],
            class_ids=self.class_ids[:0],
            boxes=self.boxes[:0],
            image_ids=(self.image_ids[number],) * len(images),
            letterboxes=tuple(letterboxes),
            paths=(self.paths[number],) * len(images),
        )


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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
