"""How long the stages of a run take."""

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


def seconds_in_turn(works: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Median seconds of each work in every round; the works take turns within a round.

    Each turn is a few runs after one that is not counted, so that neither a machine that slows down
    nor the threads that another runtime leaves spinning change how the works compare.
    """
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            time.sleep(_PAUSE)
            work()
            taken = []
            for _ in range(RUNS):
                start = time.perf_counter()
                work()
                taken.append(time.perf_counter() - start)
            found[name].append(statistics.median(taken))
    return found
