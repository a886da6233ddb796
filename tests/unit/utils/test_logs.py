from __future__ import annotations

import io
import itertools
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from utils import logs
from utils.logs import IRREGULAR, Progress, counted, format_duration


@pytest.mark.parametrize(
    ("seconds", "arguments"),
    [(0, "0 s"), (45.4, "45 s"), (99.9, "100 s"), (100, "2 min"), (3600, "60 min"),
     (6000, "1 h 40 min"), (11_100, "3 h 05 min")],
)  # fmt: skip
def test_lengths_of_time(seconds, arguments):
    assert format_duration(seconds) == arguments


PLURALS = {
    # the endings
    "dog": "dogs", "person": "persons", "bus": "buses", "wine glass": "wine glasses",
    "bench": "benches", "toothbrush": "toothbrushes", "box": "boxes", "waltz": "waltzes",
    "canary": "canaries", "toy": "toys", "traffic light": "traffic lights",
    "stop-sign": "stop-signs",
    # plurals already, which YOLOv5 would give another s
    "skis": "skis", "scissors": "scissors", "Platelets": "Platelets", "pants": "pants",
    # abbreviations, numbers, other scripts
    "RBC": "RBCs", "class_3": "class_3", "猫": "猫", "": "",
    # irregular ones, in the last word
    "sheep": "sheep", "mouse": "mice", "Knife": "Knives", "police_woman": "police_women",
}  # fmt: skip


@pytest.mark.parametrize(("noun", "plural"), PLURALS.items())
def test_a_noun_suits_its_number(noun, plural):
    assert [counted(count, noun) for count in (0, 1, 2)] == [
        f"0 {plural}", f"1 {noun}", f"2 {plural}"
    ]  # fmt: skip


def test_what_is_irregular_differs_from_the_rule():
    for noun, plural in IRREGULAR.items():
        assert counted(2, noun) == f"2 {plural}"
        assert counted(2, f"x{noun}") != f"2 x{plural}"  # a word that is not listed


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


def ranks(rank: int, local: int) -> dict[str, str]:
    """What torchrun sets, for two machines of two processes."""
    return {"RANK": f"{rank}", "LOCAL_RANK": f"{local}", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger and the filters of warnings, restored."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    with warnings.catch_warnings():
        yield root
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.mark.parametrize(
    ("environment", "levels"),
    [
        ({}, {logging.INFO, logging.WARNING, logging.ERROR}),
        ({"RANK": "3"}, {logging.INFO, logging.WARNING, logging.ERROR}),  # another launcher's word
        (ranks(0, 0), {logging.INFO, logging.WARNING, logging.ERROR}),
        (ranks(1, 1), set()),
        (ranks(2, 0), {logging.ERROR}),  # another machine, with a console of its own
        (ranks(3, 1), set()),
    ],
)
def test_which_process_says_what(root_logger, environment, levels):
    logs.configure_logging(environment)
    all_levels = (logging.INFO, logging.WARNING, logging.ERROR)
    assert {level for level in all_levels if root_logger.isEnabledFor(level)} == levels
    assert logs.reports_errors() == bool(levels)
    ignored = ("ignore", None, Warning, None, 0)
    assert (warnings.filters[0] == ignored) == (logging.WARNING not in levels)


def test_what_torch_tells_of_itself_is_left_out(root_logger, capsys):
    logs.configure_logging({})
    logging.getLogger("torch._subclasses.fake_tensor").info("FakeTensor cache stats:")
    logging.getLogger("models.network").info("ours")
    assert capsys.readouterr() == ("ours\n", "")


def test_who_fails_silently_waits_for_the_one_that_speaks(root_logger, monkeypatch):
    waited: list[float] = []
    monkeypatch.setattr(logs.time, "sleep", waited.append)
    logs.configure_logging(ranks(0, 0))
    assert (logs.exit_code_after_report(2), waited) == (2, [])
    logs.configure_logging(ranks(1, 1))
    assert (logs.exit_code_after_report(0), waited) == (0, [])
    assert (logs.exit_code_after_report(2), waited) == (2, [logs.SECONDS_TO_REPORT])
    logs.report_errors(allowed=True)  # it alone has failed
    assert logs.exit_code_after_report(2) == 2 and len(waited) == 1
    assert root_logger.isEnabledFor(logging.ERROR)
