"""The images of a training run: training batches, and validation batches beside them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from data.augment import AugmentConfig
from data.dataset import EvalDataset, TrainDataset
from data.dataset_spec import DatasetSpec
from data.image_cache import CacheKind, CacheSettings
from data.image_weights import ImageWeights
from data.loader import EvalLoader, TrainLoader, eval_loader, train_loader
from data.records import read_records
from data.rect_batches import rect_input_hws, sort_by_aspect
from utils.engine.distributed import Ranks
from utils.structures import ImageRecord

VAL_BATCH_SIZE = 32


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """How the images of a run are loaded.

    Attributes:
        image_size: side of the network input in pixels, a multiple of `stride`.
        stride: largest stride of the network.
        num_classes: C.
        batch_size: images per training batch.
        workers: most processes that load images.
        seed: of order and augmentation.
        rect: rectangular training batches without mosaic.
        cache: where resized training images are kept, if anywhere.
        mosaic_until_epoch: first epoch without mosaic; None makes mosaics to the end.
        image_weights: draw images of rare and badly found classes more often.
        pin_memory: for training on a GPU.
    """

    image_size: int
    stride: int
    num_classes: int
    batch_size: int
    workers: int
    seed: int
    rect: bool = False
    cache: CacheKind = "none"
    mosaic_until_epoch: int | None = None
    image_weights: bool = False
    pin_memory: bool = False


def read_training_records(
    spec: DatasetSpec, *, strict: bool, single_class: bool, outlines: bool
) -> tuple[Sequence[ImageRecord], Sequence[ImageRecord]]:
    """The images to learn from and those to evaluate on; the arguments are those of `read_records`.

    Raises:
        DatasetError: something is wrong with the files.
    """
    read = functools.partial(read_records, spec, strict=strict, single_class=single_class)
    return read("train", outlines=outlines), read("val")


def load_training_images(
    records: Sequence[ImageRecord],
    val_records: Sequence[ImageRecord],
    augment: AugmentConfig,
    config: ImageConfig,
    ranks: Ranks,
) -> tuple[TrainLoader, EvalLoader]:
    """The loaders of a run, with the batches of this process.

    Raises:
        ConfigError: settings that contradict each other, or a cache that does not fit.
        DatasetError: fewer images than processes.
    """
    shapes = None
    if config.rect:
        order = sort_by_aspect([record.image_hw for record in records])
        records = tuple(records[place] for place in order)
        hws = [record.image_hw for record in records]
        shapes = rect_input_hws(
            hws, config.image_size, config.batch_size, stride=config.stride, pad=0.0
        )
        last = len(shapes) % config.batch_size
        if 0 < last < ranks.count and len(shapes) > last:  # joins the batch before: see the loader
            joined = shapes[-last - config.batch_size :]
            largest = (max(h for h, _ in joined), max(w for _, w in joined))
            shapes = (*shapes[: -len(joined)], *(largest for _ in joined))
    dataset = TrainDataset(
        records,
        config.image_size,
        augment,
        config.seed,
        mosaic_until_epoch=config.mosaic_until_epoch,
        rect_shapes=shapes,
        cache=CacheSettings(config.cache, copies=ranks.local_count),
    )
    train = train_loader(
        dataset,
        batch_size=config.batch_size,
        workers=config.workers,
        seed=config.seed,
        device_is_cuda=config.pin_memory,
        ranks=ranks,
        weights=ImageWeights(records, config.num_classes) if config.image_weights else None,
    )
    val_dataset = EvalDataset(
        val_records, config.image_size, VAL_BATCH_SIZE, stride=config.stride, rect=True
    )
    return train, eval_loader(
        val_dataset, workers=config.workers, device_is_cuda=config.pin_memory, ranks=ranks
    )
