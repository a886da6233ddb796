from __future__ import annotations

import logging

import pytest

from utils import logs
from utils.logs import Progress, format_duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (45.4, "45 s"), (99.9, "100 s"), (100, "2 min"), (3600, "60 min"),
     (6000, "1 h 40 min"), (11_100, "3 h 05 min")],
)  # fmt: skip
def test_lengths_of_time(seconds, words):
    assert format_duration(seconds) == words


def test_progress_without_a_terminal_is_plain_lines(monkeypatch, caplog):
    monkeypatch.setattr(logs, "PLAIN_INTERVAL_SECONDS", 0.0)
    ticks = iter(range(0, 1000, 30))
    monkeypatch.setattr(logs.time, "monotonic", lambda: float(next(ticks)))
    progress = Progress(iter("ab"), 2, "epoch 1/9")
    with caplog.at_level(logging.INFO):
        for letter in progress:
            progress.note(f"box {letter}")

    assert caplog.messages == [
        "epoch 1/9: 1/2 batch, 0.03/s, 30 s left  box a",
        "epoch 1/9: 2/2 batch, 0.03/s, 0 s left  box b",
    ]
