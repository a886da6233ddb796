"""Timers: the stages of a run, and functions that are compared."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

ItemT = TypeVar("ItemT")
ROUNDS, RUNS = 6, 5  # of `seconds_in_turn`
_PAUSE = 0.05  # seconds: threads of the runtime before keep spinning for a while


class StageClock:
    """Adds up the seconds spent in each stage.

    Attributes:
        seconds: stage -> seconds so far.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self.seconds = dict.fromkeys(stages, 0.0)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def each(self, name: str, items: Iterable[ItemT]) -> Iterator[ItemT]:
        """Yield the items, adding the time it takes to get each of them to a stage."""
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


def seconds_in_turn(functions: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Function name -> median seconds in each of ROUNDS rounds; functions alternate in a round.

    Each turn is RUNS calls after one that is not counted, so that neither a machine that slows down
    nor threads that another runtime leaves spinning favours one of them.
    """
    found: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(ROUNDS):
        for name, function in functions.items():
            time.sleep(_PAUSE)
            function()
            taken = []
            for _ in range(RUNS):
                start = time.perf_counter()
                function()
                taken.append(time.perf_counter() - start)
            found[name].append(statistics.median(taken))
    return found
