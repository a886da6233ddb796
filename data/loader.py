"""Samples to batches, in this process or by the threads of another one.

One process with many threads, not many processes: the threads share the images that mosaics are
made of, and what takes time (decoding, resizing, warping, copying) releases Python's lock. It is a
process of its own so that the training loop has a lock for itself. Training batches come from there
in shared memory that is used again (`data.shared_buffers`).

Nothing that a batch holds depends on the number of workers: the sampler, which runs in the main
process, hands out keys that hold all a worker needs to know.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import cv2
import torch
from torch.utils.data import DataLoader, get_worker_info

from data.array_loader import same_size_batches
from data.batch_maker import BatchMaker, reused_buffers
from data.epoch_sampler import EpochSampler
from data.eval_dataset import EvalDataset
from data.image_weights import ImageWeights
from data.train_dataset import TrainDataset, mosaic_pool
from utils.batches import Batch
from utils.engine.distributed import Ranks
from utils.errors import ConfigError, DatasetError

BatchT = TypeVar("BatchT")
BATCHES_AHEAD = 4  # that are made while the network works
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # as <malloc.h> numbers them
KEPT_BYTES = 32 << 20  # the most that glibc allows


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
            pool=mosaic_pool(dataset.image_size),
        )
        threads = _threads(workers)
        buffers = None
        if threads > 0 and not pin_memory:  # torch pins before `received`, which knows the memory
            shapes = dataset.rect_shapes or [(dataset.image_size, dataset.image_size)]
            heights, widths = zip(*shapes, strict=True)
            largest = (-(-batch_size // ranks.count), max(heights), max(widths))
            # Those made ahead, the one in use, and the one before, to which a loop still refers.
            buffers = reused_buffers(BATCHES_AHEAD + 2, largest)
        self._maker = BatchMaker(dataset, threads, buffers)
        self._loader = _make_loader(self._maker, self._sampler, threads, pin_memory)

    def in_flight(self) -> list[Path]:
        """The images that workers read last."""
        return self._maker.in_flight()

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
        yield from map(self._maker.received, self._loader)


class EvalLoader:
    """The batches of an EvalDataset, in its order, as often as asked for."""

    def __init__(self, dataset: EvalDataset, workers: int, pin_memory: bool, ranks: Ranks) -> None:
        self.dataset = dataset
        self._workers, self._pin_memory, self._ranks = workers, pin_memory, ranks
        batches = same_size_batches(dataset.input_hws, dataset.batch_size)
        self._batches = list(ranks.shard(batches))
        self._maker = BatchMaker(dataset, _threads(workers), None)
        self._loader = _make_loader(self._maker, self._batches, _threads(workers), pin_memory)

    def in_flight(self) -> list[Path]:
        """As for TrainLoader."""
        return self._maker.in_flight()

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
        return map(self._maker.received, self._loader)


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
        workers: threads that make samples, in one process of their own, at most one per core; 0
            makes them in this process.
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
            "the process that loads images died, killed or out of memory; it was reading "
            f"{', '.join(images)} (a mosaic reads three more); look at them, or give it more "
            "memory"
        ) from None


def _threads(workers: int) -> int:
    """More threads than cores only get in each other's way."""
    return min(workers, os.cpu_count() or 1)


def _make_loader(
    maker: BatchMaker, batches: Iterable[list[Any]], workers: int, pin_memory: bool
) -> DataLoader[Batch]:
    start_worker: Callable[[int], None] | None = _start_worker if workers > 0 else None
    return DataLoader(
        maker,
        batch_sampler=batches,
        num_workers=min(workers, 1),
        prefetch_factor=BATCHES_AHEAD if workers > 0 else None,
        collate_fn=_as_it_is,
        pin_memory=pin_memory,
        worker_init_fn=start_worker,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # its own: making batches must not move torch's random state
    )


def _as_it_is(batch: BatchT) -> BatchT:
    return batch


def _start_worker(_: int) -> None:
    """One thread per sample: these are the parallelism."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    _keep_freed_memory()
    info = get_worker_info()
    if info is not None and isinstance(info.dataset, BatchMaker):
        info.dataset.start_threads()


def _keep_freed_memory() -> None:
    """Let this process use freed memory again.

    By default glibc gives that of an image back to the system, and the next image of the same size
    costs some hundred page faults: a fifth of the time of a training sample.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(M_TRIM_THRESHOLD, 2 * KEPT_BYTES)
