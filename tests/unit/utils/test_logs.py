from __future__ import annotations

import io
import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from utils import logs
from utils.logs import Progress, format_duration


@pytest.mark.parametrize(
    ("seconds", "arguments"),
    [(0, "0 s"), (45.4, "45 s"), (99.9, "100 s"), (100, "2 min"), (3600, "60 min"),
     (6000, "1 h 40 min"), (11_100, "3 h 05 min")],
)  # fmt: skip
def test_lengths_of_time(seconds, arguments):
    assert format_duration(seconds) == arguments


def test_progress_without_a_terminal_is_plain_lines(monkeypatch, caplog):
    monkeypatch.setattr(logs, "PLAIN_INTERVAL_SECONDS", 0.0)
    ticks = iter(range(0, 1000, 30))
    monkeypatch.setattr(logs.time, "monotonic", lambda: float(next(ticks)))
    with caplog.at_level(logging.INFO):
        assert list(Progress(iter("ab"), 2, "val")) == ["a", "b"]

    assert caplog.messages == [
        "val: 1/2 batch, 0.03/s, 30 s left",
        "val: 2/2 batch, 0.03/s, 0 s left",
    ]


def test_a_title_that_changes_is_asked_for_once_per_line(monkeypatch, caplog):
    ticks = iter(range(0, 1000, 6))  # a line after every third item
    monkeypatch.setattr(logs.time, "monotonic", lambda: float(next(ticks)))
    asked = []

    def title() -> str:
        asked.append(len(asked))
        return f"line {len(asked)}"

    with caplog.at_level(logging.INFO):
        assert list(Progress(range(7), 7, title)) == list(range(7))
    assert [message.partition(":")[0] for message in caplog.messages] == ["line 1", "line 2"]


@pytest.mark.parametrize(("seconds", "times"), [(0.1, 1), (0.6, 4)])
def test_a_bar_asks_for_its_title_once_a_second(monkeypatch, seconds, times):
    """And once before the first item."""
    monkeypatch.setattr(logs.sys, "stderr", Terminal())
    ticks = (seconds * number for number in itertools.count())
    monkeypatch.setattr(logs.time, "monotonic", lambda: next(ticks))
    asked = []
    with logged(logging.INFO):
        list(Progress(range(7), 7, lambda: asked.append(0) or "t", leave=False))
    assert len(asked) == times


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def logged(level: int) -> Iterator[None]:
    logger = logging.getLogger("utils.logs")
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
