"""Where a call's time goes."""

from __future__ import annotations

import cProfile
import functools
import time

from benchmarks.conversion_parts import CHECK, FLOOR, conversion_parts
from benchmarks.memory import write_random_checkpoint
from benchmarks.parts import seconds_in, seconds_in_file


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


def test_a_profile_of_another_process(tmp_path):
    profiler = cProfile.Profile()
    profiler.runcall(naps)
    profiler.dump_stats(tmp_path / "profile")
    found = seconds_in_file(tmp_path / "profile", {"nap": naps, "none": never_called})
    assert found["nap"] >= 0.05 and found["none"] == 0


def test_parts_of_a_conversion(tmp_path):
    weights = tmp_path / "tiny.pt"
    write_random_checkpoint(weights, "repyolov5n.yaml")
    found = conversion_parts(weights)
    assert min(found.values()) > 0
    assert found[CHECK] > sum(found[name] for name in found if name.startswith("of it, "))
    assert found[FLOOR] < found[CHECK] and list(tmp_path.iterdir()) == [weights]
