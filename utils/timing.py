"""How long the stages of a run take."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

ItemT = TypeVar("ItemT")


class StageClock:
    """Adds up the seconds spent in each stage.

    Attributes:
        seconds: stage -> seconds so far.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self.seconds = dict.fromkeys(stages, 0.0)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block towards a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def each(self, name: str, items: Iterable[ItemT]) -> Iterator[ItemT]:
        """The items, the time it takes to get each of them counted towards a stage."""
        iterator = iter(items)
        while True:
            with self.stage(name):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def milliseconds_per(self, count: int) -> dict[str, float]:
        """Stage -> milliseconds divided by `count` (0 where nothing was counted)."""
        return {name: 1000 * seconds / max(count, 1) for name, seconds in self.seconds.items()}
