"""Times of runs, their spread, and what a report says of the machine."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.training_runs import ROOT, current_commit, machine_line


class RunFailedError(Exception):
    """A command that is measured ended with an error."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Values of several rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def as_text(self, decimals: int = 2) -> str:
        """`median (lowest to highest)`."""
        low, high = min(self.values), max(self.values)
        return f"{self.median:.{decimals}f} ({low:.{decimals}f} to {high:.{decimals}f})"


def seconds_of(command: Sequence[str]) -> float:
    """Wall time of a command, from its start to its end.

    Raises:
        RunFailedError: it failed; the message is its last line.
    """
    start = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError as error:
        raise RunFailedError(f"{command[0]}: {error.strerror}") from None
    seconds = time.perf_counter() - start
    if done.returncode:
        lines = [*done.stdout.splitlines(), *done.stderr.splitlines(), "no output"]
        raise RunFailedError(f"{command[0]} ended with {done.returncode}: {lines[-2]}")
    return seconds


def script(name: str, *arguments: object) -> list[str]:
    """The command that runs a script of this project."""
    return [sys.executable, name, *map(str, arguments)]


def measured_with(module: str, rounds: int) -> str:
    """The line of a report that says where its figures come from."""
    import onnxruntime  # here: what it measures needs it, this module does not

    load = f"load before {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    return (
        f"{machine_line()} onnxruntime {onnxruntime.__version__}, {os.cpu_count()} cores, {load}, "
        f"commit {current_commit()}. rounds in turn: {rounds}; median (lowest to highest). Made by "
        f"`python -m {module}`."
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    cells = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(row)} |" for row in cells]
