"""Images and labels as training samples, augmented.

A sample depends on (seed, epoch, index) alone, never on which worker makes it or on what was made
before, so a run can be repeated and continued exactly.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from data.affine import AffineMap
from data.augment import AugmentConfig, augment_hsv, mix_up, random_affine, random_flip
from data.copy_paste import copy_paste
from data.image_cache import CacheSettings, ImageCache, RecentImages, fill_cache
from data.mosaic import NUM_TILES, Tile, make_mosaic
from data.resized_image import read_unchanged, resize_long_side
from utils.letterbox import Letterbox
from utils.structures import ImageArray, ImageRecord, Outline, Sample, Targets

logger = logging.getLogger(__name__)


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
        image = read_unchanged(self.records[index], needed=self.image_size)
        return resize_long_side(image, self.image_size, cv2.INTER_LINEAR)
