"""How long a benchmark may take, shared between its sections: rounds are dropped first."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


class RoundLimit:
    """Tells after each round whether another one would end too late.

    Attributes:
        deadline: on the clock.
    """

    def __init__(self, deadline: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.deadline = deadline
        self._clock = clock
        self._last = clock()

    @property
    def left(self) -> float:
        """Seconds until the deadline, at least 0."""
        return max(self.deadline - self._clock(), 0.0)

    def part(self, share: float) -> RoundLimit:
        """A limit for the next `share`, 0 to 1, of what is left of this one."""
        now = self._clock()
        return RoundLimit(now + share * max(self.deadline - now, 0.0), self._clock)

    def reached(self) -> bool:
        """Whether a round as long as the time since the last call would end after the deadline."""
        now = self._clock()
        cost, self._last = now - self._last, now
        return now + cost > self.deadline


@dataclass(frozen=True, slots=True)
class TimeBudget:
    """The time of all sections.

    Attributes:
        weights: section -> its part of the time, in order; what one does not use goes to the
            next ones.
        deadline: on the clock.
        clock: seconds.
    """

    weights: dict[str, float]
    deadline: float
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def of_minutes(
        cls, minutes: float, weights: dict[str, float], clock: Callable[[], float] = time.monotonic
    ) -> TimeBudget:
        """A budget that starts now."""
        return cls(weights, clock() + 60 * minutes, clock)

    @property
    def left(self) -> float:
        """Seconds until the deadline, at least 0."""
        return max(self.deadline - self.clock(), 0.0)

    def limit_of(self, section: str) -> RoundLimit:
        """What a section that begins now may take."""
        names = list(self.weights)
        to_come = names[names.index(section) :]
        share = self.weights[section] / sum(self.weights[name] for name in to_come)
        return RoundLimit(self.clock() + share * self.left, self.clock)
