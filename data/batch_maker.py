"""Batches made of samples, in this process or by the threads of the loading process."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data.eval_dataset import EvalDataset
from data.shared_buffers import Filled, SharedBuffers
from data.train_dataset import SampleKey, TrainDataset
from utils.batches import Batch
from utils.errors import DatasetError
from utils.structures import ImageArray, Sample

KeyT = TypeVar("KeyT", contravariant=True)
Mapper = Callable[..., Iterable[Any]]  # `map`, or that of an executor


class SampleSource(Protocol[KeyT]):
    """Samples by keys, of which the sizes are known before."""

    def __getitem__(self, key: KeyT, /) -> Sample:
        """The sample with a key."""

    def input_hw(self, key: KeyT, /) -> tuple[int, int]:
        """Height and width of its image."""


def make_batch(source: SampleSource[KeyT], keys: Sequence[KeyT]) -> Batch:
    """Samples of one input size (at least one) as a batch."""
    pixels = torch.empty(batch_shape(source, keys), dtype=torch.uint8)
    return labelled(pixels, write_samples(source.__getitem__, keys, pixels, map))


def batch_shape(source: SampleSource[KeyT], keys: Sequence[KeyT]) -> tuple[int, int, int, int]:
    """The shape of the pixels of a batch."""
    return (len(keys), 3, *source.input_hw(keys[0]))


def write_samples(
    read: Callable[[KeyT], Sample], keys: Sequence[KeyT], pixels: Tensor, each: Mapper
) -> list[Sample]:
    """Write images into a batch, every one as soon as it is there.

    Args:
        read: gives the sample with a key.
        keys: of the samples.
        pixels: (B, 3, H, W) uint8, to be written.
        each: runs a function for every key, perhaps for several at a time.

    Returns:
        The samples without their pixels.
    """
    no_pixels = np.empty((0, 0, 3), np.uint8)

    def write(key: KeyT, planes: ImageArray) -> Sample:
        sample = read(key)
        _split_channels(sample.image, planes)
        return replace(sample, image=no_pixels)

    return list(each(write, keys, pixels.numpy()))


def _split_channels(image: ImageArray, planes: ImageArray) -> None:
    """Write (H, W, 3) pixels as (3, H, W); copying a transposed view takes far longer."""
    if image.shape != (*planes.shape[1:], 3):  # OpenCV would write somewhere else
        raise ValueError(f"an image of shape {image.shape} for a batch of {planes.shape[1:]}")
    cv2.split(image, list(planes))


def labelled(pixels: Tensor, samples: Sequence[Sample]) -> Batch:
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


@dataclass(frozen=True, slots=True)
class FilledBatch:
    """A batch on its way from the loading process: where its pixels are, and the rest."""

    filled: Filled
    samples: list[Sample]


class BatchMaker(Dataset[Batch]):
    """Batches by the keys of their samples, made by several threads after `start_threads`.

    An error in the data reaches the main process as it is (torch would wrap it in a traceback),
    and of a process that dies it is known which images its threads were reading.

    Attributes:
        dataset: of the samples.
    """

    def __init__(
        self, dataset: TrainDataset | EvalDataset, workers: int, buffers: SharedBuffers | None
    ) -> None:
        """Prepare, before the loading process starts.

        Args:
            dataset: of the samples.
            workers: threads that make them.
            buffers: for the pixels; None takes fresh memory for every batch.
        """
        self.dataset, self._buffers = dataset, buffers
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

    def __getitems__(self, keys: Sequence[Any]) -> Batch | FilledBatch | DatasetError:
        """A batch, to be given to `received`."""
        try:
            if self._threads is None:
                return make_batch(self.dataset, keys)
            return self._made_by(self._threads, keys)
        except DatasetError as error:
            return error

    def received(self, batch: Batch | FilledBatch | DatasetError) -> Batch:
        """In the main process: what `__getitems__` has made, in the same order.

        Raises:
            DatasetError: something was wrong with one of the images.
        """
        if isinstance(batch, DatasetError):
            raise batch
        if isinstance(batch, Batch):
            return batch
        if self._buffers is None:
            raise RuntimeError("a batch in a buffer, and no buffers")
        return labelled(self._buffers.receive(batch.filled), batch.samples)

    def _made_by(self, threads: ThreadPoolExecutor, keys: Sequence[Any]) -> Batch | FilledBatch:
        shape = batch_shape(self.dataset, keys)
        if self._buffers is not None and (taken := self._buffers.take(shape)):
            filled, pixels = taken
            return FilledBatch(filled, write_samples(self._watched, keys, pixels, threads.map))
        pixels = torch.empty(shape, dtype=torch.uint8)
        pixels.share_memory_()  # type: ignore[no-untyped-call]  # written where it is read
        return labelled(pixels, write_samples(self._watched, keys, pixels, threads.map))

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


def reused_buffers(count: int, largest: tuple[int, int, int]) -> SharedBuffers | None:
    """Buffers for batches of at most (B, H, W).

    Returns:
        None where processes are not forked, or so much memory may not be reserved.
    """
    start_method = multiprocessing.get_start_method(allow_none=True)
    if (start_method or multiprocessing.get_all_start_methods()[0]) != "fork":
        return None
    try:
        return SharedBuffers(count, 3 * math.prod(largest))
    except OSError:
        return None
