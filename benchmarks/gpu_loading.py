"""The training loader on all cores: whether it feeds a GPU. A section of `benchmarks.gpu`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_setting import GpuSetting
from benchmarks.time_budget import RoundLimit
from benchmarks.timed_training import TimedTraining
from data.augment import AugmentConfig
from data.dataset_spec import load_dataset_spec
from data.image_cache import CacheSettings
from data.loader import TrainLoader, train_loader
from data.records import read_records
from data.synthetic.dataset import SyntheticConfig, write_dataset
from data.train_dataset import TrainDataset
from experiments.block_costs import PLAIN, interleaved_ms
from experiments.coco_cost import coco128_records
from utils.structures import ImageRecord

DRAWN_IMAGES = 160
FROM_FILES, CACHED = "loaded from files", "loaded from memory"
TRAINED, BOTH = "trained, not loaded", "loaded from files and trained"


def loading(bench: GpuSetting, limit: RoundLimit) -> Iterator[dict[str, Any]]:
    """Images per second that are loaded, trained, and both at the same time."""
    source, records = _records(bench)
    steps = bench.steps
    records = tuple(itertools.islice(itertools.cycle(records), bench.loader_images))
    from_files, cached = (_loader(records, bench, cache) for cache in (None, CacheSettings("ram")))
    training = TimedTraining(PLAIN, steps, bench.how(), bench.training_batches())
    number = itertools.count()

    def epoch(loader: TrainLoader) -> Callable[[], None]:
        def call() -> None:
            for _ in loader.epoch(next(number)):
                pass

        return call

    def both() -> None:
        training.train(from_files.epoch(next(number)), len(from_files))

    work: dict[str, Callable[[], object]] = {
        FROM_FILES: epoch(from_files), CACHED: epoch(cached), TRAINED: training, BOTH: both,
    }  # fmt: skip
    ms = interleaved_ms(work, steps.rounds, bench.device, limit.reached)
    images = {name: len(records) for name in work} | {TRAINED: bench.images}
    yield {
        "source": source,
        "cores": os.cpu_count(),
        "images_per_s": {name: [1e3 * images[name] / value for value in values]
                         for name, values in ms.items()},
    }  # fmt: skip


def _records(bench: GpuSetting) -> tuple[str, Sequence[ImageRecord]]:
    """coco128 where it is, else drawn images; and which of them."""
    if (bench.shared / "data" / "coco128").is_dir():
        return "coco128", coco128_records(bench.shared, bench.folder)
    size = bench.steps.image_size
    yaml = write_dataset(Path(bench.folder) / "drawn", SyntheticConfig(DRAWN_IMAGES, size))
    return f"drawn images of {size} px", read_records(load_dataset_spec(yaml), "train")


def _loader(
    records: Sequence[ImageRecord], bench: GpuSetting, cache: CacheSettings | None
) -> TrainLoader:
    dataset = TrainDataset(records, bench.steps.image_size, AugmentConfig(), 0, cache=cache)
    return train_loader(
        dataset,
        batch_size=bench.steps.batch_size,
        workers=os.cpu_count() or 1,
        seed=0,
        device_is_cuda=bench.device.type == "cuda",
    )
