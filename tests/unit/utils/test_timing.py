from __future__ import annotations

import pytest

from utils import timing
from utils.timing import StageClock


@pytest.fixture
def clock(monkeypatch):
    """A clock whose every look at the time is one second after the last."""
    ticks = iter(range(1000))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(ticks)))
    return StageClock(("read", "write"))


def test_stages_add_up(clock):
    for _ in range(3):
        with clock.stage("write"):
            pass
    assert clock.seconds == {"read": 0, "write": 3}
    assert clock.milliseconds_per(2) == {"read": 0, "write": 1500}
    assert clock.milliseconds_per(0) == {"read": 0, "write": 3000}


def test_getting_items_is_counted_using_them_is_not(clock):
    assert list(clock.each("read", "abc")) == ["a", "b", "c"]
    assert clock.seconds["read"] == 4  # three items and the end
    assert list(clock.each("write", [])) == []


def test_a_failing_stage_is_counted(clock):
    with pytest.raises(ValueError), clock.stage("read"):
        raise ValueError
    assert clock.seconds["read"] == 1
