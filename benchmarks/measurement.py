"""Times of runs, their spread, and what a report says of the machine."""

from __future__ import annotations

import logging
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from experiments.training_runs import ROOT, machine_line
from utils.child_process import run_child


class RunFailedError(Exception):
    """A command that is measured ended with an error."""


class PeerFailedError(RunFailedError):
    """The peer cannot measure something; the rest goes on without it."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Values of several rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def as_text(self, decimals: int | None = None) -> str:
        """`median (lowest to highest)`, by default with three digits that count."""
        shown = digits_after(self.median) if decimals is None else decimals
        low, high = min(self.values), max(self.values)
        return f"{self.median:.{shown}f} ({low:.{shown}f} to {high:.{shown}f})"


def digits_after(value: float, significant: int = 3) -> int:
    """Digits after the point with which a value has so many that count; at most 6."""
    before, size = 0, abs(value)
    while size >= 1:
        before, size = before + 1, size / 10
    while 0 < size < 0.1 and before > -6:
        before, size = before - 1, size * 10
    return min(max(significant - before, 0), 6)


def seconds_of(command: Sequence[str], variables: Mapping[str, str] | None = None) -> float:
    """Wall time of a command, as `output_of` runs it, from its start to its end.

    Raises:
        RunFailedError: it failed; the message is its last line.
    """
    start = time.perf_counter()
    output_of(command, variables)
    return time.perf_counter() - start


def output_of(command: Sequence[str], variables: Mapping[str, str] | None = None) -> str:
    """What a command writes to its standard output.

    Args:
        command: run in the project's folder.
        variables: of its environment, besides those of this process.

    Raises:
        RunFailedError: it failed; the message is its last line.
    """
    environment = {**os.environ, **(variables or {})}
    try:
        done = run_child(command, cwd=ROOT, capture=True, check=False, env=environment)
    except OSError as error:
        raise RunFailedError(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        lines = [*done.stdout.splitlines(), *done.stderr.splitlines()]
        said = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
        raise RunFailedError(f"{command[0]} ended with {done.returncode}: {said}")
    return done.stdout


def script(name: str, *arguments: object) -> list[str]:
    """The command that runs a script of this project."""
    return [sys.executable, name, *map(str, arguments)]


@contextmanager
def warnings_only(*names: str) -> Iterator[None]:
    """A region in which these loggers, and those below them, say no more than warnings."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


def load_average() -> float | None:
    """Processes that run or wait, over the last minute; None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def measured_with(module: str, rounds: int) -> str:
    """The line of a report that says where its figures come from."""
    load = load_average()
    before = "load unknown" if load is None else f"load before {load:.1f}"
    return (
        f"{machine_line()} {os.cpu_count()} cores, {before}. Rounds in turn: "
        f"{rounds}; median (lowest to highest). Made by `python -m {module}`."
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    cells = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(row)} |" for row in cells]
