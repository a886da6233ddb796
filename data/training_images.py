"""The images of a training run, for training and validation, and a summary of their labels."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from data.augment import AugmentConfig
from data.dataset_spec import DatasetSpec
from data.eval_dataset import EvalDataset, rect_input_hws, sort_by_aspect
from data.image_cache import CacheKind, CacheSettings, cache_bytes
from data.image_weights import ImageWeights
from data.loader import EvalLoader, TrainLoader, eval_loader, train_loader
from data.record_table import RecordTable
from data.records import read_records
from data.train_dataset import TrainDataset
from utils.engine.distributed import Ranks
from utils.errors import ConfigError
from utils.structures import ImageRecord, SizeArray
from utils.train_config import TrainConfig

logger = logging.getLogger(__name__)
VAL_BATCH_SIZE = 32


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """How the images of a run are loaded.

    Attributes:
        stride: largest stride of the network.
        batch_size: images per training batch.
        workers: most processes that load images.
        seed: of order and augmentation.
        rect: rectangular training batches without mosaic.
        cache: where resized training images are kept, if anywhere.
        mosaic_until_epoch: first epoch without mosaic; None makes mosaics to the end.
        image_weights: draw images of rare and badly found classes more often.
        pin_memory: for training on a GPU.
        multi_scale: batches are resized to half their size at least.
    """

    stride: int
    batch_size: int
    workers: int
    seed: int
    rect: bool = False
    cache: CacheKind = "none"
    mosaic_until_epoch: int | None = None
    image_weights: bool = False
    pin_memory: bool = False
    multi_scale: bool = False

    @classmethod
    def of(
        cls, config: TrainConfig, stride: int, batch_size: int, *, pin_memory: bool
    ) -> ImageConfig:
        """The settings of train.py that concern this, with the batch size that was measured."""
        if config.image_weights and config.noval:
            logger.warning("--image-weights: with --noval only how rare a class is counts")
        return cls(
            stride=stride,
            batch_size=batch_size,
            workers=config.workers,
            seed=config.seed,
            rect=config.rect,
            cache=config.cache,
            mosaic_until_epoch=config.epochs - config.close_mosaic if config.close_mosaic else None,
            image_weights=config.image_weights,
            pin_memory=pin_memory,
            multi_scale=config.multi_scale,
        )

    def min_batch(self, image_size: int, num_ranks: int) -> int:
        """Images that each process needs in a batch; the norms need more than one value a channel.

        Args:
            image_size: side of the network input in pixels.
            num_ranks: processes that share a batch.

        Raises:
            ConfigError: a batch has fewer, for inputs of which the coarsest map has one cell.
        """
        smallest = image_size // 2 if self.multi_scale else image_size
        if smallest // self.stride > 1:
            return 1
        if self.batch_size < 2 * num_ranks:
            raise ConfigError(
                f"--imgsz {image_size} --batch-size {self.batch_size}: leaves one value per "
                f"channel to the last norms; use --imgsz {image_size * 2} or more, or --batch-size "
                f"{2 * num_ranks} or more"
            )
        return 2


@dataclass(frozen=True, slots=True)
class TrainingImages:
    """The labelled images of a run.

    Attributes:
        train: to learn from.
        val: to evaluate on.
        class_names: in class-id order.
        size: side of the network input in pixels.
    """

    train: Sequence[ImageRecord]
    val: Sequence[ImageRecord]
    class_names: tuple[str, ...]
    size: int

    @classmethod
    def read(
        cls,
        spec: DatasetSpec,
        size: int,
        *,
        strict: bool,
        single_class: bool,
        outlines: bool,
        indexed: bool,
    ) -> TrainingImages:
        """Read both splits and log what there is to learn.

        Args:
            spec: of the data set.
            size: side of the network input in pixels.
            strict: any bad image or label row is an error.
            single_class: treat all classes as one.
            outlines: also read the objects' polygons.
            indexed: read only what has changed since an earlier run.

        Raises:
            DatasetError: something is wrong with the files.
        """
        read = functools.partial(
            read_records, spec, strict=strict, single_class=single_class, indexed=indexed
        )
        class_names = spec.classes(single=single_class)
        images = cls(read("train", outlines=outlines), read("val"), class_names, size)
        log_label_summary(images.train, images.box_sizes(), class_names, size)
        return images

    def box_sizes(self) -> SizeArray:
        """(N, 2) width and height of the boxes to learn, in pixels of the network input."""
        return box_sizes(self.train, self.size)

    def cache_bytes(self, kind: CacheKind) -> int:
        """Memory of this machine that a cache of the training images will take."""
        return cache_bytes(self.train, self.size) if kind == "ram" else 0

    def loaders(
        self, augment: AugmentConfig, config: ImageConfig, ranks: Ranks
    ) -> tuple[TrainLoader, EvalLoader]:
        """Training and validation batches, this process's part of them.

        Raises:
            ConfigError: settings that contradict each other, or a cache that does not fit.
            DatasetError: fewer images than processes.
        """
        records, shapes = self.train, None
        min_batch = config.min_batch(self.size, ranks.count)
        if config.rect:
            records, shapes = _rectangular(records, self.size, config, min_batch * ranks.count)
        dataset = TrainDataset(
            records,
            self.size,
            augment,
            config.seed,
            mosaic_until_epoch=config.mosaic_until_epoch,
            rect_shapes=shapes,
            cache=None
            if config.cache == "none"
            else CacheSettings(config.cache, copies=ranks.local_count),
        )
        classes = len(self.class_names)
        train = train_loader(
            dataset,
            batch_size=config.batch_size,
            workers=config.workers,
            seed=config.seed,
            device_is_cuda=config.pin_memory,
            ranks=ranks,
            weights=ImageWeights(records, classes) if config.image_weights else None,
            min_batch=min_batch,
        )
        val_dataset = EvalDataset(
            self.val, self.size, VAL_BATCH_SIZE, stride=config.stride, rect=True
        )
        return train, eval_loader(
            val_dataset, workers=config.workers, device_is_cuda=config.pin_memory, ranks=ranks
        )


def _rectangular(
    records: Sequence[ImageRecord], size: int, config: ImageConfig, min_last: int
) -> tuple[Sequence[ImageRecord], Sequence[tuple[int, int]]]:
    """The images by aspect ratio, and the (height, width) of each one's input."""
    order = sort_by_aspect([record.image_hw for record in records])
    records = tuple(records[index] for index in order)
    hws = [record.image_hw for record in records]
    shapes = rect_input_hws(hws, size, config.batch_size, stride=config.stride, pad=0.0)
    last = len(shapes) % config.batch_size
    if 0 < last < min_last and len(shapes) > last:  # joins the batch before: see the loader
        joined = shapes[-last - config.batch_size :]
        largest = (max(h for h, _ in joined), max(w for _, w in joined))
        shapes = (*shapes[: -len(joined)], *(largest for _ in joined))
    return records, shapes


logger = logging.getLogger(__name__)
# In pixels of the network input: too small to learn, then small, medium and large.
SIZE_EDGES = {"below 3 px": 3, "3-8 px": 8, "8-32 px": 32, "32-96 px": 96, "above 96 px": np.inf}
MAX_CLASSES_LISTED = 12


def box_sizes(records: Sequence[ImageRecord], image_size: int) -> SizeArray:
    """(N, 2) width and height of all boxes, in pixels of images with that longer side."""
    table = RecordTable.of(records)
    boxes = table.boxes.astype(np.float64)
    longer_sides = np.repeat(table.image_hws.max(1, initial=1), table.object_counts)
    return np.asarray((boxes[:, 2:] - boxes[:, :2]) * image_size / longer_sides[:, None])


def objects_per_class(records: Iterable[ImageRecord], num_classes: int) -> list[int]:
    """The number of objects of each of C classes, crowd regions not counted."""
    class_ids = RecordTable.of(records).class_ids
    return [int(count) for count in np.bincount(class_ids, minlength=num_classes)]


def objects_per_size(sizes: SizeArray) -> dict[str, int]:
    """How many boxes have a longer side in each range of SIZE_EDGES.

    Args:
        sizes: (N, 2) width and height in pixels of the network input.
    """
    longest = sizes.max(1) if len(sizes) else np.zeros(0)
    lower = (0.0, *SIZE_EDGES.values())
    return {
        name: int(((longest >= low) & (longest < high)).sum())
        for low, (name, high) in zip(lower, SIZE_EDGES.items(), strict=False)
    }


def log_label_summary(
    records: Sequence[ImageRecord], sizes: SizeArray, class_names: Sequence[str], image_size: int
) -> None:
    """Classes and box sizes of the training images, a line each; zeros are not listed.

    Args:
        records: the images.
        sizes: of their boxes, as for `objects_per_size`.
        class_names: in class-id order.
        image_size: of the network input.
    """
    counts = objects_per_class(records, len(class_names))
    order = sorted(range(len(counts)), key=lambda number: -counts[number])
    found = [number for number in order if counts[number]]
    shown = found
    if len(found) > MAX_CLASSES_LISTED:
        half = MAX_CLASSES_LISTED // 2
        shown = [*found[:half], *found[-half:]]
    entries = [f"{class_names[number]} {counts[number]}" for number in shown]
    if len(shown) < len(found):
        entries.insert(len(shown) // 2, "...")
    logger.info("Objects to learn: %s", ", ".join(entries) or "none")
    if missing := [class_names[number] for number in order if counts[number] == 0]:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        logger.warning("  no object of %s%s", ", ".join(missing[:5]), more)
    log_sizes(sizes, image_size)


def log_sizes(sizes: SizeArray, image_size: int) -> dict[str, int]:
    """Log and return `objects_per_size`; `image_size` is named in the line, zeros are not."""
    counts = objects_per_size(sizes)
    if len(sizes):
        logger.info("Longer sides of boxes at %d px: %s", image_size, ", ".join(
            f"{name} {count}" for name, count in counts.items() if count))  # fmt: skip
    return counts
