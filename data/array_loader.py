"""Samples to batches of arrays, for networks that run where torch is not installed."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from data.eval_dataset import EvalDataset
from utils.batches import ArrayBatch
from utils.structures import Sample

BATCHES_AHEAD = 2  # that threads make while the network works


class ArrayLoader:
    """The batches of an EvalDataset, in its order, as often as asked for."""

    def __init__(self, dataset: EvalDataset, *, workers: int) -> None:
        """Choose how samples are made.

        Args:
            dataset: the samples.
            workers: threads that make them (decoding and resizing release Python's lock), at most
                one per core; 0 makes them in this thread.
        """
        self.dataset = dataset
        self._batches = same_size_batches(dataset.input_hws, dataset.batch_size)
        self._threads = min(workers, os.cpu_count() or 1)

    def __len__(self) -> int:
        """The number of batches."""
        return len(self._batches)

    def __iter__(self) -> Iterator[ArrayBatch]:
        """The batches.

        Raises:
            DatasetError: while iterating, an image cannot be read any more.
        """
        if not self._threads:
            for indices in self._batches:
                yield ArrayBatch(tuple(self.dataset[index] for index in indices))
            return
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="samples")
        try:
            yield from self._made_by(pool)
        finally:
            pool.shutdown(cancel_futures=True)

    def _made_by(self, pool: ThreadPoolExecutor) -> Iterator[ArrayBatch]:
        in_work: deque[list[Future[Sample]]] = deque()
        for indices in self._batches:
            in_work.append([pool.submit(self.dataset.__getitem__, index) for index in indices])
            if len(in_work) > BATCHES_AHEAD:
                yield _finished(in_work.popleft())
        while in_work:
            yield _finished(in_work.popleft())


def _finished(samples: Sequence[Future[Sample]]) -> ArrayBatch:
    return ArrayBatch(tuple(sample.result() for sample in samples))


def same_size_batches(input_hws: Sequence[tuple[int, int]], batch_size: int) -> list[list[int]]:
    """Consecutive positions of one input size, at most `batch_size` of them together."""
    batches: list[list[int]] = []
    for _, group in itertools.groupby(range(len(input_hws)), key=lambda index: input_hws[index]):
        same = list(group)
        batches += [same[start : start + batch_size] for start in range(0, len(same), batch_size)]
    return batches
