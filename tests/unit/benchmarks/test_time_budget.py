"""The time of a benchmark: shares, what is handed on, and rounds that are dropped."""

from __future__ import annotations

import pytest
import torch

from benchmarks.time_budget import RoundLimit, TimeBudget
from experiments.block_costs import interleaved_ms


class Clock:
    """Seconds that only pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_sections_share_what_is_left(clock):
    budget = TimeBudget.of_minutes(1, {"a": 1.0, "b": 2.0, "c": 3.0}, clock)
    assert budget.limit_of("a").left == pytest.approx(10)
    clock.now += 4  # six seconds to spare
    assert budget.limit_of("b").left == pytest.approx(56 * 2 / 5)
    clock.now += 50
    assert budget.limit_of("c").left == pytest.approx(6)
    clock.now += 50
    assert budget.left == 0 and budget.limit_of("c").left == 0


def test_a_round_that_would_end_too_late_is_not_begun(clock):
    limit = RoundLimit(clock.now + 10, clock)
    clock.now += 3
    assert not limit.reached()  # another three seconds fit
    clock.now += 3
    assert not limit.reached()
    clock.now += 3
    assert limit.reached()


def test_a_part_of_a_limit(clock):
    limit = RoundLimit(clock.now + 10, clock)
    assert limit.part(0.5).left == pytest.approx(5)
    clock.now += 20
    assert limit.part(0.5).left == 0


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 1), (3.5, 2), (100.0, 6)])
def test_rounds_are_dropped_and_one_is_always_made(clock, seconds, rounds):
    """A round takes a second; the warm-up takes one more."""

    def work() -> None:
        clock.now += 1

    limit = RoundLimit(clock.now + seconds, clock)
    found = interleaved_ms({"a": work}, 6, torch.device("cpu"), limit.reached)
    assert len(found["a"]) == rounds
