from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.detect.pipeline import Found, ahead, in_order
from utils.logs import RANK_VARIABLES
from utils.stop_signals import SIGNALS, Stopped, StopSignals, raised_as_interrupts
from utils.structures import Detections, Frame, Skipped


@given(st.lists(st.integers()), st.integers(1, 5))
def test_ahead_changes_nothing(items, depth):
    assert list(ahead(iter(items), depth)) == items


def test_ahead_is_made_by_another_thread_and_not_too_far():
    made = []

    def numbers():
        for number in range(100):
            made.append((number, threading.current_thread()))
            yield number

    items = ahead(numbers(), 2)
    assert next(items) == 0
    time.sleep(0.3)
    # One is used, two wait, and one is held by the thread that cannot put it down.
    assert [number for number, _ in made] == [0, 1, 2, 3]
    assert threading.current_thread() not in {thread for _, thread in made}
    assert list(items) == list(range(1, 100))


def test_an_error_comes_after_what_was_made_before():
    def broken():
        yield from range(3)
        raise ValueError("broken")

    seen = []
    with pytest.raises(ValueError, match="broken"):
        for item in ahead(broken(), 5):
            seen.append(item)
    assert seen == [0, 1, 2]


def test_who_stops_early_ends_the_thread_and_its_generator():
    ended = threading.Event()

    def endless():
        try:
            yield from itertools.count()
        finally:
            ended.set()

    before = threading.active_count()
    items = ahead(endless(), 2)
    next(items)
    items.close()
    assert ended.wait(2)
    assert threading.active_count() == before


def found(number):
    frame = Frame(np.zeros((8, 8, 3), np.uint8), "x", Path("x"), 1, 1, 1, 1, None, False)
    return Found(number, frame, (8, 8), Detections.empty(), 1.0)


@given(st.permutations(range(8)))
def test_in_order(numbers):
    ordered = in_order(found(number) for number in numbers)
    assert [result.number for result in ordered] == list(range(8))


def test_in_order_waits_for_no_more_than_it_must():
    arrivals = []

    def results():
        for number in (1, 0, 2):
            arrivals.append(number)
            yield found(number)
        yield Skipped(Path("y"), "broken")

    ordered = in_order(results())
    assert next(ordered).number == 0 and arrivals == [1, 0]
    assert next(ordered).number == 1 and arrivals == [1, 0]
    assert [type(result) for result in ordered] == [Found, Skipped]


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_asks_the_run_to_end(name):
    number = getattr(signal, name)
    before, calls = signal.getsignal(number), []
    with StopSignals(lambda: calls.append(name)) as signals:
        assert signals.received is None
        os.kill(os.getpid(), number)
        assert (signals.received, calls) == (number, [name])
        assert signal.getsignal(number) == before  # a second one ends the program
    assert signal.getsignal(number) == before


def test_nohup_outlives_the_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals(lambda: None) as signals, raised_as_interrupts():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.received is None
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("name", SIGNALS[1:])
def test_a_signal_is_raised_as_control_c_is(name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped, raised_as_interrupts():
        os.kill(os.getpid(), number)
        time.sleep(5)
    assert stopped.value.code == 128 + number
    assert signal.getsignal(number) == before


def test_signals_end_processes_of_torchrun_at_once(monkeypatch):
    for name in RANK_VARIABLES:
        monkeypatch.setenv(name, "1")
    before = signal.getsignal(signal.SIGTERM)
    with raised_as_interrupts():
        assert signal.getsignal(signal.SIGTERM) == before


def test_signals_are_left_alone_in_other_threads():
    failures = []

    def block():
        try:
            with StopSignals(lambda: None) as signals:
                assert signals.received is None
        except Exception as error:  # noqa: BLE001, shown below
            failures.append(error)

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert failures == []
