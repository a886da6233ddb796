"""Frames -> network input: the size each image gets, and batches of images of one size."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from utils.frame import Frame, Skipped
from utils.letterbox import Letterbox, round_up_to_stride
from utils.structures import FloatArray, ImageArray
from utils.timing import StageClock

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InputSize:
    """What an image is letterboxed to.

    Attributes:
        limit_hw: height and width it must fit into.
        stride: the padding is cut to a multiple of this; None pads up to `limit_hw`.
    """

    limit_hw: tuple[int, int]
    stride: int | None

    @classmethod
    def choose(
        cls,
        wanted_hw: tuple[int, int],
        fixed_hw: tuple[int | None, int | None],
        stride: int,
    ) -> InputSize:
        """The size a network can take that is nearest to the size wanted.

        Args:
            wanted_hw: what the user asked for; rounded up to the stride, with a warning.
            fixed_hw: what the network's file insists on; None where it takes any size.
            stride: of the network.
        """
        height, width = (round_up_to_stride(size, stride) for size in wanted_hw)
        if (height, width) != wanted_hw and None in fixed_hw:
            logger.warning(
                "--imgsz %dx%d: sizes must be multiples of %d; using %dx%d",
                *wanted_hw,
                stride,
                height,
                width,
            )
        limit_hw = (fixed_hw[0] or height, fixed_hw[1] or width)
        if fixed_hw == (None, None):
            return cls(limit_hw, stride)
        if limit_hw != (height, width):
            logger.info(
                "--imgsz %dx%d: this file takes %dx%d only; using that", *wanted_hw, *limit_hw
            )
        return cls(limit_hw, None)

    def letterbox(self, image_hw: tuple[int, int]) -> Letterbox:
        """How an image of this height and width is fitted."""
        return Letterbox.fit(image_hw, self.limit_hw, stride=self.stride)


@dataclass(frozen=True, slots=True)
class PreparedFrame:
    """A frame and its letterboxed pixels, (H, W, 3) uint8 RGB."""

    frame: Frame
    letterbox: Letterbox
    pixels: ImageArray


def prepare_batches(
    items: Iterable[Frame | Skipped], size: InputSize, batch_size: int, clock: StageClock
) -> Iterator[list[PreparedFrame] | Skipped]:
    """Frames of equal input size in groups of up to `batch_size`, in order; skipped files between.

    Args:
        items: the frames as they are read.
        size: what each is letterboxed to.
        batch_size: a group is handed on when it has this many, or when the size changes.
        clock: gets the time of the stages `decode` and `preprocess`.
    """
    batch: list[PreparedFrame] = []
    for item in clock.each("decode", items):
        if isinstance(item, Skipped):
            yield item
            continue
        with clock.stage("preprocess"):
            letterbox = size.letterbox(item.image_hw)
            prepared = PreparedFrame(item, letterbox, letterbox.apply_image(item.image))
        if batch and batch[0].letterbox.input_hw != letterbox.input_hw:
            yield batch
            batch = []
        batch.append(prepared)
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def as_network_input(batch: list[PreparedFrame]) -> FloatArray:
    """(B, 3, H, W) float32 in 0-1 from the pixels of a batch."""
    height, width = batch[0].letterbox.input_hw
    images = np.empty((len(batch), 3, height, width), np.float32)
    for image, prepared in zip(images, batch, strict=True):
        for plane, channel in zip(image, cv2.split(prepared.pixels), strict=True):
            np.divide(channel, 255, out=plane, dtype=np.float32)
    return images
