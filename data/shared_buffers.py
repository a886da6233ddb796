"""Memory that one process fills and another reads, used again and again.

Fresh shared memory costs a page fault for every 4 KiB on both sides, which took a quarter of the
time of making training batches.
"""

from __future__ import annotations

import math
import mmap
import weakref
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from utils.structures import ImageArray


class Filled(NamedTuple):
    """A buffer that was filled.

    Attributes:
        buffer: its position.
        number: of this filling, counted from 1 over all buffers.
        shape: of the pixels in it.
    """

    buffer: int
    number: int
    shape: tuple[int, ...]


class SharedBuffers:
    """Buffers for one process that fills them and its parent, which reads.

    Made before the filling process is forked off; the memory has no name and goes with the two
    processes. The reader receives fillings in the order of their numbers, some perhaps never: those
    of an epoch that is left early. So whatever it does not hold when it receives a filling, and is
    older, may be filled again.
    """

    def __init__(self, count: int, num_bytes: int) -> None:
        """Reserve addresses for `count` buffers; pages come when they are first written to."""
        memory = np.frombuffer(mmap.mmap(-1, count * num_bytes), np.uint8)
        self._buffers = memory.reshape(count, num_bytes)
        # By buffer, of the last filling that the reader is done with: only the reader writes this.
        self._done = np.frombuffer(mmap.mmap(-1, count * 8), np.int64)
        self._held: set[int] = set()  # buffers; of the reader
        self._filled = [0] * count  # by buffer, its last filling; of the filling process
        self._last = 0  # likewise

    def take(self, shape: tuple[int, ...]) -> tuple[Filled, Tensor] | None:
        """In the filling process: uint8 memory of a shape; None if none is free or large enough."""
        size = math.prod(shape)
        if size > self._buffers.shape[1]:
            return None
        for buffer, (filled, done) in enumerate(zip(self._filled, self._done, strict=True)):
            if filled <= done:
                self._last = self._filled[buffer] = self._last + 1
                pixels = torch.from_numpy(self._buffers[buffer, :size]).reshape(shape)
                return Filled(buffer, self._last, shape), pixels
        return None

    def receive(self, filled: Filled) -> Tensor:
        """In the reading process: what was filled in, not copied.

        The buffer is filled again when nothing refers to the tensor's memory any more.
        """
        for buffer in set(range(len(self._done))) - self._held:
            self._done[buffer] = filled.number - 1
        self._held.add(filled.buffer)
        pixels: ImageArray = self._buffers[filled.buffer, : math.prod(filled.shape)]
        weakref.finalize(pixels, self._release, filled).atexit = False
        return torch.from_numpy(pixels).reshape(filled.shape)

    def _release(self, filled: Filled) -> None:
        self._held.discard(filled.buffer)  # first: it may be filled and received at once
        self._done[filled.buffer] = filled.number
