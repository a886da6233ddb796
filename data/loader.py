"""Samples to batches, in worker processes or in this one.

Nothing that a batch holds depends on the number of workers: the sampler, which runs in the main
process, hands out keys that hold all a worker needs to know.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from data.array_loader import same_size_batches
from data.dataset import EvalDataset, SampleKey, TrainDataset
from data.epoch_sampler import EpochSampler
from data.image_weights import ImageWeights
from utils.batches import Batch
from utils.engine.distributed import Ranks
from utils.errors import ConfigError, DatasetError
from utils.structures import Sample


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples of one input size (at least one) as a batch."""
    counts = [len(sample.targets) for sample in samples]
    images = np.stack([sample.image for sample in samples])
    return Batch(
        images=torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(),
        image_index=torch.from_numpy(np.repeat(np.arange(len(samples)), counts)),
        class_ids=torch.from_numpy(np.concatenate([s.targets.class_ids for s in samples])),
        boxes=torch.from_numpy(np.concatenate([s.targets.boxes for s in samples])),
        image_ids=tuple(sample.image_id for sample in samples),
        letterboxes=tuple(sample.letterbox for sample in samples),
        paths=tuple(sample.path for sample in samples),
    )


class TrainLoader:
    """The batches of each epoch, in an order drawn from (seed, epoch).

    With `weights` images are drawn with these probabilities instead, as many as there are.
    """

    def __init__(
        self,
        dataset: TrainDataset,
        batch_size: int,
        workers: int,
        seed: int,
        pin_memory: bool,
        ranks: Ranks,
        weights: ImageWeights | None = None,
        min_batch: int = 1,
    ) -> None:
        self.dataset = dataset
        self._weights = weights
        self._sampler = EpochSampler(
            len(dataset),
            batch_size,
            seed,
            ranks,
            keep_batches=dataset.rect_shapes is not None,
            min_batch=min_batch,
        )
        self._loader = _make_loader(dataset, self._sampler, workers, pin_memory)

    def in_flight(self) -> list[Path]:
        """The images that worker processes read last."""
        return _in_flight(self._loader)

    def __len__(self) -> int:
        """The number of batches in an epoch; the last one may be smaller."""
        return len(self._sampler)

    def epoch(self, number: int, AP_of_class: Sequence[float] = ()) -> Iterator[Batch]:
        """The batches of an epoch, counted from 0.

        Args:
            number: of the epoch.
            AP_of_class: AP of each class, by which `weights` choose; nothing before an evaluation.

        Raises:
            DatasetError: while iterating, an image cannot be read any more.
        """
        self._sampler.epoch = number  # in the same breath as iterating: both are lazy
        if self._weights is not None:
            self._sampler.probabilities = self._weights(AP_of_class)
        yield from _unwrap(self._loader)


class EvalLoader:
    """The batches of an EvalDataset, in its order, as often as asked for."""

    def __init__(self, dataset: EvalDataset, workers: int, pin_memory: bool, ranks: Ranks) -> None:
        self.dataset = dataset
        self._workers, self._pin_memory, self._ranks = workers, pin_memory, ranks
        batches = same_size_batches(dataset.input_hws, dataset.batch_size)
        self._batches = list(ranks.shard(batches))
        self._loader = _make_loader(dataset, self._batches, workers, pin_memory)

    def in_flight(self) -> list[Path]:
        """As for TrainLoader."""
        return _in_flight(self._loader)

    def unsharded(self) -> EvalLoader:
        """A loader of all batches, those of other ranks too."""
        if self._ranks.count == 1:
            return self
        return EvalLoader(self.dataset, self._workers, self._pin_memory, Ranks())

    def __len__(self) -> int:
        """The number of batches."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        """The batches.

        Raises:
            DatasetError: while iterating, an image cannot be read any more.
        """
        return _unwrap(self._loader)


def train_loader(
    dataset: TrainDataset,
    *,
    batch_size: int,
    workers: int,
    seed: int,
    device_is_cuda: bool,
    ranks: Ranks | None = None,
    weights: ImageWeights | None = None,
    min_batch: int = 1,
) -> TrainLoader:
    """Batches of a training set.

    Args:
        dataset: the samples.
        batch_size: images per batch, of which each of `ranks` gets its part.
        workers: processes that make samples, at most one per core; 0 makes them in this process.
        seed: of the order.
        device_is_cuda: put batches in page-locked memory, from which a GPU copies faster.
        ranks: the processes that train together; None is this one alone.
        weights: draws some images more often than others.
        min_batch: images that each process gets at least; a smaller last batch joins another.

    Raises:
        ConfigError: `weights` for rectangular batches.
        DatasetError: too few images for the processes.
    """
    if weights is not None and dataset.rect_shapes is not None:
        raise ConfigError(
            "--image-weights: rectangular batches hold the same images always; leave --rect out"
        )
    return TrainLoader(
        dataset, batch_size, workers, seed, device_is_cuda, ranks or Ranks(), weights, min_batch
    )


def eval_loader(
    dataset: EvalDataset, *, workers: int, device_is_cuda: bool, ranks: Ranks | None = None
) -> EvalLoader:
    """Batches of an evaluation set, some for each of `ranks`; the arguments are train_loader's."""
    return EvalLoader(dataset, workers, device_is_cuda, ranks or Ranks())


@contextmanager
def worker_deaths_named(*loaders: TrainLoader | EvalLoader) -> Iterator[None]:
    """A region in which the death of a loading process is an error that names its image.

    torch notices the death in the main process wherever that is at the moment, in a forward pass
    for example, and raises there.

    Raises:
        DatasetError: such a process was killed.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        images = [str(path) for loader in loaders for path in loader.in_flight()]
        raise DatasetError(
            "a process that loads images died, killed or out of memory; it was reading "
            f"{', '.join(images)} (a mosaic reads three more); look at them, or try fewer "
            "--workers"
        ) from None


class _WatchedSamples(Dataset[Sample | DatasetError]):
    """Samples, and what becomes of the workers that make them.

    A worker's error reaches the main process as it is (torch would wrap it in a traceback), and of
    a worker that dies it is known which image it was reading.
    """

    def __init__(self, dataset: TrainDataset | EvalDataset, workers: int) -> None:
        self.dataset = dataset
        self._in_flight = torch.full((workers,), -1)
        self._in_flight.share_memory_()  # type: ignore[no-untyped-call]

    def in_flight(self) -> list[Path]:
        """The images workers are making samples of, or were when they died."""
        return [
            self.dataset.records[index].path for index in self._in_flight.tolist() if index >= 0
        ]

    def __getitem__(self, key: Any) -> Sample | DatasetError:
        worker = get_worker_info()
        if worker is not None:
            self._in_flight[worker.id] = key.index if isinstance(key, SampleKey) else key
        try:
            return self.dataset[key]
        except DatasetError as error:
            return error


def _make_loader(
    dataset: TrainDataset | EvalDataset,
    batches: Iterable[list[Any]],
    workers: int,
    pin_memory: bool,
) -> DataLoader[Sample | DatasetError]:
    # More processes than cores only get in each other's way.
    workers = min(workers, os.cpu_count() or 1)
    start_worker: Callable[[int], None] | None = _start_worker if workers > 0 else None
    return DataLoader(
        _WatchedSamples(dataset, workers),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate_or_error,
        pin_memory=pin_memory,
        worker_init_fn=start_worker,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # its own: making batches must not move torch's random state
    )


def _collate_or_error(samples: Sequence[Sample | DatasetError]) -> Batch | DatasetError:
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, DatasetError):
            return sample
        good.append(sample)
    return collate(good)


def _unwrap(loader: DataLoader[Sample | DatasetError]) -> Iterator[Batch]:
    for batch in loader:
        if isinstance(batch, DatasetError):
            raise batch
        yield batch


def _in_flight(loader: DataLoader[Sample | DatasetError]) -> list[Path]:
    samples = loader.dataset
    return samples.in_flight() if isinstance(samples, _WatchedSamples) else []


def _start_worker(_: int) -> None:
    """One thread per worker process: the workers are the parallelism."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
