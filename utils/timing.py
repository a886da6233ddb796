"""Timing pieces of code against each other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

ROUNDS, RUNS = 6, 5  # of `seconds_in_turn`
_PAUSE = 0.05  # seconds: threads of the runtime before keep spinning for a while


def seconds_in_turn(functions: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Median seconds of each function in every round; they take turns within a round.

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
