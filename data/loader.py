"""Samples to batches, in this process or by the threads of another one.

One process with many threads, not many processes: the threads share the images that mosaics are
made of, and what takes time (decoding, resizing, warping, copying) releases Python's lock. It is a
process of its own so that the training loop has a lock for itself.

Nothing that a batch holds depends on the number of workers: the sampler, which runs in the main
process, hands out keys that hold all a worker needs to know.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from data.array_loader import same_size_batches
from data.dataset import EvalDataset, SampleKey, TrainDataset, mosaic_pool
from data.epoch_sampler import EpochSampler
from data.image_weights import ImageWeights
from utils.batches import Batch
from utils.engine.distributed import Ranks
from utils.errors import ConfigError, DatasetError
from utils.structures import ImageArray, Sample

BatchT = TypeVar("BatchT")
KeyT = TypeVar("KeyT", contravariant=True)
Mapper = Callable[..., Iterable[Any]]  # `map`, or that of an executor
BATCHES_AHEAD = 4  # that are made while the network works


class SampleSource(Protocol[KeyT]):
    """Samples by keys, of which the sizes are known before."""

    def __getitem__(self, key: KeyT, /) -> Sample:
        """The sample with a key."""

    def input_hw(self, key: KeyT, /) -> tuple[int, int]:
        """Height and width of its image."""


def make_batch(source: SampleSource[KeyT], keys: Sequence[KeyT], each: Mapper = map) -> Batch:
    """Samples of one input size (at least one) as a batch.

    Args:
        source: gives the samples.
        keys: of the samples.
        each: runs a function for every sample, perhaps for several at a time.
    """
    pixels = torch.empty((len(keys), 3, *source.input_hw(keys[0])), dtype=torch.uint8)
    return _write_batch(source.__getitem__, keys, pixels, each)


def _write_batch(
    read: Callable[[KeyT], Sample], keys: Sequence[KeyT], pixels: Tensor, each: Mapper
) -> Batch:
    """A batch of (B, 3, H, W) `pixels`, into which every image goes as soon as it is there."""

    def write(key: KeyT, planes: ImageArray) -> Sample:
        sample = read(key)
        _split_channels(sample.image, planes)
        return replace(sample, image=planes.transpose(1, 2, 0))

    return _labelled(pixels, list(each(write, keys, pixels.numpy())))


def _split_channels(image: ImageArray, planes: ImageArray) -> None:
    """Write (H, W, 3) pixels as (3, H, W); copying a transposed view takes far longer."""
    if image.shape != (*planes.shape[1:], 3):  # OpenCV would write somewhere else
        raise ValueError(f"an image of shape {image.shape} for a batch of {planes.shape[1:]}")
    cv2.split(image, list(planes))


def _labelled(pixels: Tensor, samples: Sequence[Sample]) -> Batch:
    """A batch of (B, 3, H, W) pixels and the labels of their samples."""
    counts = [len(sample.targets) for sample in samples]
    return Batch(
        images=pixels,
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
            pool=mosaic_pool(dataset.image_size),
        )
        self._loader = _make_loader(dataset, self._sampler, workers, pin_memory)

    def in_flight(self) -> list[Path]:
        """The images that workers read last."""
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


class _Batches(Dataset[Batch]):
    """Batches by the keys of their samples, made by several threads after `start_threads`.

    An error in the data reaches the main process as it is (torch would wrap it in a traceback),
    and of a process that dies it is known which images its threads were reading.
    """

    def __init__(self, dataset: TrainDataset | EvalDataset, workers: int) -> None:
        self.dataset = dataset
        self._in_flight = torch.full((workers,), -1)
        self._in_flight.share_memory_()  # type: ignore[no-untyped-call]
        self._threads: ThreadPoolExecutor | None = None
        self._free_slots: SimpleQueue[int] | None = None  # of _in_flight, one per thread

    def start_threads(self) -> None:
        """In the process that makes batches: work on several samples at a time from now on."""
        self._free_slots = SimpleQueue()
        for number in range(len(self._in_flight)):
            self._free_slots.put(number)
        self._threads = ThreadPoolExecutor(len(self._in_flight), "samples")

    def in_flight(self) -> list[Path]:
        """The images that threads are making samples of, or were when they died."""
        return [
            self.dataset.records[index].path for index in self._in_flight.tolist() if index >= 0
        ]

    def __getitems__(self, keys: Sequence[SampleKey | int]) -> Batch | DatasetError:
        """A batch, or what is wrong with one of its images."""
        try:
            if self._threads is None:
                return make_batch(self.dataset, keys)  # type: ignore[misc]
            return self._made_by(self._threads, keys)
        except DatasetError as error:
            return error

    def _made_by(self, threads: ThreadPoolExecutor, keys: Sequence[SampleKey | int]) -> Batch:
        hw = self.dataset.input_hw(keys[0])  # type: ignore[arg-type]
        pixels = torch.empty((len(keys), 3, *hw), dtype=torch.uint8)
        pixels.share_memory_()  # type: ignore[no-untyped-call]  # written where it is read
        return _write_batch(self._watched, keys, pixels, threads.map)

    def _watched(self, key: SampleKey | int) -> Sample:
        slots = self._free_slots
        if slots is None:
            raise RuntimeError("the threads have not been started")
        slot = slots.get()
        self._in_flight[slot] = key.index if isinstance(key, SampleKey) else key
        try:
            return self.dataset[key]  # type: ignore[index]
        finally:
            slots.put(slot)


def _make_loader(
    dataset: TrainDataset | EvalDataset,
    batches: Iterable[list[Any]],
    workers: int,
    pin_memory: bool,
) -> DataLoader[Batch]:
    # More threads than cores only get in each other's way.
    workers = min(workers, os.cpu_count() or 1)
    start_worker: Callable[[int], None] | None = _start_worker if workers > 0 else None
    return DataLoader(
        _Batches(dataset, workers),
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


def _unwrap(loader: DataLoader[Batch]) -> Iterator[Batch]:
    for batch in loader:
        if isinstance(batch, DatasetError):
            raise batch
        yield batch


def _in_flight(loader: DataLoader[Batch]) -> list[Path]:
    batches = loader.dataset
    return batches.in_flight() if isinstance(batches, _Batches) else []


def _start_worker(_: int) -> None:
    """One thread per sample: these are the parallelism."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    info = get_worker_info()
    if info is not None and isinstance(info.dataset, _Batches):
        info.dataset.start_threads()
