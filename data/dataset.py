"""Images and labels as samples: augmented for training, plain for evaluation.

A training sample depends on (seed, epoch, index) alone, never on which worker makes it or on what
was made before, so a run can be repeated and continued exactly.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from data.affine import AffineMap
from data.augment import AugmentConfig, augment_hsv, mix_up, random_affine, random_flip
from data.copy_paste import copy_paste
from data.image_cache import CacheSettings, ImageCache, RecentImages, fill_cache
from data.image_file import read_shrunk, shrink_factor
from data.mosaic import NUM_TILES, Tile, make_mosaic
from utils.errors import DatasetError
from utils.letterbox import Letterbox, long_side_hw
from utils.structures import ImageArray, ImageRecord, IntArray, Outline, Sample, Targets

logger = logging.getLogger(__name__)
# Neighbours in aspect ratio that share an input size. In YOLOv5 that is the batch, so that its AP
# depends on the batch size; 8 gives the shapes of its batch 8.
RECT_GROUP = 8


class SampleKey(NamedTuple):
    """Which training sample: image `index` as it looks in `epoch`, for the `repeat`-th time.

    `companions` are the images that a mosaic takes (three, then four for mixup); without them
    each is drawn with the same probability.
    """

    epoch: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which is not used
    repeat: int = 0
    companions: tuple[int, ...] = ()


NUM_COMPANIONS = 2 * NUM_TILES - 1
# Of resized images that are kept while mosaics are made of them: 256 at 640 px.
_POOL_BYTES, _MIN_POOL, _MAX_POOL = 3 * 640 * 640 * 256, 64, 1024


def mosaic_pool(image_size: int) -> int:
    """How many images follow one another whose mosaics show no others.

    Args:
        image_size: side of the network input in pixels.
    """
    return min(max(_POOL_BYTES // (3 * image_size**2), _MIN_POOL), _MAX_POOL)


class TrainDataset:
    """Augmented samples, all of one input size (or of the sizes given).

    Attributes:
        records: the images.
        image_size: side of the network input in pixels.
        augment: how strongly images are changed.
        seed: of the random numbers.
        mosaic_until_epoch: first epoch without mosaic; None makes mosaics to the end.
        rect_shapes: (height, width) of each image's input instead of the square (rect_input_hws,
            records sorted by aspect ratio); no mosaics then.

    With `cache` every image is decoded once, when the data set is made (`data.image_cache`).
    Otherwise those that were decoded last are kept for the next mosaics.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        image_size: int,
        augment: AugmentConfig,
        seed: int,
        *,
        mosaic_until_epoch: int | None = None,
        rect_shapes: Sequence[tuple[int, int]] | None = None,
        cache: CacheSettings | None = None,
    ) -> None:
        if rect_shapes is not None and len(rect_shapes) != len(records):
            raise ValueError(f"{len(rect_shapes)} rect_shapes for {len(records)} records")
        self.records = tuple(records)
        self.image_size = image_size
        self.augment = augment
        self.seed = seed
        self.mosaic_until_epoch = mosaic_until_epoch
        self.rect_shapes = None if rect_shapes is None else tuple(rect_shapes)
        if augment.copy_paste > 0 and rect_shapes is not None:
            logger.warning(
                "copy_paste is %g, but has no effect: it needs mosaics", augment.copy_paste
            )
        elif augment.copy_paste > 0 and not any(any(record.outlines) for record in records):
            logger.warning(
                "copy_paste is %g, but has no effect: no label is a polygon", augment.copy_paste
            )
        makes_mosaics = augment.mosaic > 0 and rect_shapes is None
        kept = mosaic_pool(image_size) if makes_mosaics else 1
        self._images: ImageCache = RecentImages(self._read_resized, kept)
        if cache is not None:  # filled now: what the loading process stored would not be kept
            self._images = fill_cache(cache, self.records, image_size, self._read_resized)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.records)

    def __getitem__(self, key: SampleKey) -> Sample:
        """The sample that a key names, augmented.

        Raises:
            DatasetError: its image, or one that a mosaic needs, cannot be read any more.
        """
        epoch, index, repeat, companions = key
        rng = np.random.default_rng([self.seed, epoch, index, repeat])
        if self._makes_mosaics(epoch) and rng.random() < self.augment.mosaic:
            image, targets = self._mosaic(index, companions[: NUM_TILES - 1], rng)
            if rng.random() < self.augment.mixup:
                rest = companions[NUM_TILES - 1 :]
                other = rest[0] if rest else int(rng.integers(len(self.records)))
                mixed_in = self._mosaic(other, rest[1:], rng)
                image, targets = mix_up((image, targets), mixed_in, rng)
        else:
            image, targets = self._single(index, self.input_hw(key), rng)
        image = augment_hsv(image, self.augment, rng)
        image, targets = random_flip(image, targets, self.augment, rng)
        record = self.records[index]
        return Sample(image, targets, record.image_id, path=record.path)

    def input_hw(self, key: SampleKey) -> tuple[int, int]:
        """Height and width of the image of the sample that a key names."""
        if self.rect_shapes is None:
            return self.image_size, self.image_size
        return self.rect_shapes[key.index]

    def _makes_mosaics(self, epoch: int) -> bool:
        ended = self.mosaic_until_epoch is not None and epoch >= self.mosaic_until_epoch
        return self.rect_shapes is None and not ended

    def _mosaic(
        self, index: int, companions: Sequence[int], rng: np.random.Generator
    ) -> tuple[ImageArray, Targets]:
        """A mosaic of image `index` and three others, cut down to the input size."""
        others = companions or rng.integers(len(self.records), size=NUM_TILES - 1)
        indices = [int(each) for each in rng.permutation([index, *others])]
        tiles = [self._resized(each) for each in indices]
        mosaic = make_mosaic(tiles, self.image_size, rng)
        output_hw = (self.image_size, self.image_size)
        if self.augment.copy_paste > 0:
            outlines = [
                outline
                for each, tile in zip(indices, mosaic.tiles, strict=True)
                for outline in self._outlines(each, tile)
            ]
            canvas, targets = copy_paste(
                mosaic.canvas(), mosaic.targets, outlines, self.augment.copy_paste, rng
            )
            return random_affine(canvas, targets, self.augment, rng, output_hw=output_hw)
        affine = AffineMap.draw(mosaic.hw, output_hw, self.augment.ranges, rng)
        return mosaic.warp(affine)

    def _single(
        self, index: int, output_hw: tuple[int, int], rng: np.random.Generator
    ) -> tuple[ImageArray, Targets]:
        """One image, letterboxed, then moved by a random affine map."""
        image, targets = self._resized(index)
        height, width = image.shape[:2]
        letterbox = Letterbox.fit((height, width), output_hw)
        image = letterbox.apply_image(image)
        targets = Targets(letterbox.apply_boxes(targets.boxes), targets.class_ids)
        return random_affine(image, targets, self.augment, rng, output_hw=output_hw)

    def _resized(self, index: int) -> tuple[ImageArray, Targets]:
        """An image with its longer side resized to the input size, and its targets."""
        record = self.records[index]
        image = self._images[index]
        height, width = image.shape[:2]
        scale_x, scale_y = width / record.image_hw[1], height / record.image_hw[0]
        scale = np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
        return image, Targets(record.targets.boxes * scale, record.targets.class_ids)

    def _outlines(self, index: int, tile: Tile) -> list[Outline]:
        """The outlines of an image's objects where its tile lies in a mosaic."""
        record = self.records[index]
        height, width = tile.image.shape[:2]
        scale = np.array([width / record.image_hw[1], height / record.image_hw[0]], np.float32)
        offset = np.array((tile.left, tile.top), np.float32)
        outlines = record.outlines or ((),) * len(record.targets)
        return [tuple(polygon * scale + offset for polygon in outline) for outline in outlines]

    def _read_resized(self, index: int) -> ImageArray:
        image = _read_unchanged(self.records[index], needed=self.image_size)
        return _resize_long_side(image, self.image_size, cv2.INTER_LINEAR)


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
        original = _read_unchanged(record)
        shrinks = max(record.image_hw) > self.image_size
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        resized = _resize_long_side(original, self.image_size, interpolation)
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


def _read_unchanged(record: ImageRecord, needed: int | None = None) -> ImageArray:
    """The image of a record; refused if its size changed since the data set was read.

    Where the longer side `needed` is at most half of its own, a JPEG comes smaller, as
    `read_shrunk` says.
    """
    height, width = record.image_hw
    factor = 1 if needed is None else shrink_factor(max(height, width), needed)
    image = read_shrunk(record.path, factor)
    if image.shape[:2] not in (record.image_hw, (-(-height // factor), -(-width // factor))):
        raise DatasetError(
            f"{record.path}: {image.shape[1]}x{image.shape[0]} pixels"
            f"{f' at 1/{factor} of its size' if factor > 1 else ''}, was {width}x{height} when the "
            "data set was read; start again"
        )
    return image


def _resize_long_side(image: ImageArray, long_side: int, interpolation: int) -> ImageArray:
    image_hw = (image.shape[0], image.shape[1])
    height, width = long_side_hw(image_hw, long_side)
    if (height, width) == image_hw:
        return image
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)


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
