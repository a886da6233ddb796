"""Timing pieces of code against each other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

ROUNDS, RUNS = 6, 5  # of `seconds_in_turn`
_PAUSE = 0.05  # seconds: threads of the runtime before keep spinning for a while


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
