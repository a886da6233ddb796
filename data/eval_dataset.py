"""Images and labels as evaluation sees them: letterboxed, alone or in batches of like shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from data.resized_image import read_unchanged, resize_long_side
from utils.letterbox import Letterbox
from utils.structures import ImageRecord, IntArray, Sample, Targets

# Neighbours in aspect ratio that share an input size. In YOLOv5 that is the batch, so that its AP
# depends on the batch size; 8 gives the shapes of its batch 8.
RECT_GROUP = 8


class EvalDataset:
    """Letterboxed samples, pixel for pixel what YOLOv5's validation feeds its networks.

    Attributes:
        records: the images in the order of the samples: with `rect`, sorted by aspect ratio.
        image_size: what the longer side of an image is resized to.
        batch_size: maximum number of consecutive samples of one input size in a batch.
        input_hws: (height, width) of each sample's input.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        image_size: int,
        batch_size: int,
        *,
        stride: int = 32,
        rect: bool,
        pad: float = 0.5,
        input_hw: tuple[int, int] | None = None,
    ) -> None:
        """Choose the samples' input sizes.

        Args:
            records: the images.
            image_size: what the longer side of an image is resized to.
            batch_size: maximum number of samples in a batch.
            stride: inputs are multiples of it.
            rect: inputs as wide and high as like images need, instead of one size for all.
            pad: extra padding of those, in strides.
            input_hw: the one size without `rect`; None for a square.
        """
        self.image_size = image_size
        self.batch_size = batch_size
        self.records = tuple(records)
        self.input_hws: tuple[tuple[int, int], ...]
        if rect:
            order = sort_by_aspect([record.image_hw for record in records])
            self.records = tuple(records[index] for index in order)
            hws = [record.image_hw for record in self.records]
            self.input_hws = rect_input_hws(hws, image_size, RECT_GROUP, stride=stride, pad=pad)
        else:
            self.input_hws = (input_hw or (image_size, image_size),) * len(self.records)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        """The sample at an index; its letterbox maps boxes of the original to the input.

        Raises:
            DatasetError: the image cannot be read any more.
        """
        record = self.records[index]
        original = read_unchanged(record)
        shrinks = max(record.image_hw) > self.image_size
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        resized = resize_long_side(original, self.image_size, interpolation)
        height, width = resized.shape[:2]
        # Rounding up can leave the image a pixel larger than a square input: fit it again.
        fitted = Letterbox.fit((height, width), self.input_hws[index], scale_up=False)
        letterbox = replace(fitted, original_hw=record.image_hw)
        return Sample(
            image=fitted.apply_image(resized),
            targets=Targets(letterbox.apply_boxes(record.targets.boxes), record.targets.class_ids),
            image_id=record.image_id,
            letterbox=letterbox,
            path=record.path,
        )

    def input_hw(self, index: int) -> tuple[int, int]:
        """Height and width of the sample's image."""
        return self.input_hws[index]


def sort_by_aspect(image_hws: Sequence[tuple[int, int]]) -> IntArray:
    """(N,) indices of the images, widest (smallest height / width) first."""
    aspect = np.array([height / width for height, width in image_hws], np.float64)
    return np.argsort(aspect, kind="stable")


def rect_input_hws(
    sorted_hws: Sequence[tuple[int, int]],
    image_size: int,
    batch_size: int,
    *,
    stride: int,
    pad: float,
) -> tuple[tuple[int, int], ...]:
    """The (height, width) of each image's network input, one shape per batch.

    Args:
        sorted_hws: sizes of the images, sorted by aspect ratio.
        image_size: what the longer side of an image is resized to.
        batch_size: how many consecutive images share a shape.
        stride: the shape is a multiple of it.
        pad: extra padding, in strides.
    """
    shapes: list[tuple[int, int]] = []
    for start in range(0, len(sorted_hws), batch_size):
        batch = sorted_hws[start : start + batch_size]
        aspects = [height / width for height, width in batch]
        tall, wide = 1.0, 1.0
        if max(aspects) < 1:
            tall = max(aspects)
        elif min(aspects) > 1:
            wide = 1 / min(aspects)
        height, width = (
            math.ceil(share * image_size / stride + pad) * stride for share in (tall, wide)
        )
        shapes += [(height, width)] * len(batch)
    return tuple(shapes)
