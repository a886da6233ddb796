"""Where a call's time goes."""

from __future__ import annotations

import functools
import time

from benchmarks.parts import seconds_in


def naps() -> None:
    time.sleep(0.05)


@functools.wraps(naps)
def wrapped() -> None:
    naps()


def never_called() -> None:
    raise AssertionError


def test_seconds_are_those_of_all_calls_with_what_they_call():
    def outer() -> None:
        wrapped()
        naps()
        time.sleep(0.05)

    found = seconds_in(outer, {"both": naps, "the wrapped one": wrapped, "none": never_called,
                               "all": outer})  # fmt: skip
    assert 0.1 <= found["both"] == found["the wrapped one"] < found["all"] - 0.05 + 1e-3
    assert found["none"] == 0
