"""Several samples of one size at a time, as tensors or as arrays.

Shapes: B batch, H W pixels, M boxes of a whole batch. Boxes are xyxy in float32 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import cv2
import numpy as np

from utils.letterbox import Letterbox
from utils.structures import ImageArray, Sample, Targets

if TYPE_CHECKING:
    import torch

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
        # Copying a transposed view takes far longer.
        return np.asarray(cv2.merge(tuple(self.images[number].cpu().numpy())), np.uint8)

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
