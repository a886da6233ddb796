"""A run of train.py, or of YOLOv5's, in limited time: it is watched from outside.

Such a run writes `results.csv` and, last in an epoch, `weights/last.pt`, from which it goes on
after it was killed. Each epoch that ends adds a line to `epochs.jsonl` in the run's folder: its
number and its seconds (null for the first one of a process, which also reads the images).
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.deadline import Deadline
from experiments.training_runs import ROOT
from utils.openmp import let_threads_sleep

EPOCHS_FILE = "epochs.jsonl"
MARGIN = 1.25  # as many times the seconds of the last epoch must be left for another one
POLL_SECONDS, SETTLE_SECONDS = 0.2, 1.0


@dataclass(frozen=True, slots=True)
class Program:
    """A command, the variables of its environment besides the present ones, and its log.

    Attributes:
        log: file to which is added what it prints.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path

    def start(self) -> subprocess.Popen[bytes]:
        """Start it in the project's root."""
        environment = {**os.environ, **self.environment}
        let_threads_sleep(environment)
        with self.log.open("ab") as log:
            return subprocess.Popen(self.command, cwd=ROOT, env=environment, stdout=log,
                                    stderr=subprocess.STDOUT)  # fmt: skip

    def run(self, deadline: Deadline) -> bool:
        """Whether it ended before the deadline; else it is stopped.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        with self.start() as process:
            while process.poll() is None:
                if deadline.has_passed():
                    process.terminate()
                    return False
                time.sleep(POLL_SECONDS)
        self.check(process)
        return True

    def check(self, process: subprocess.Popen[bytes]) -> None:
        """Raise an error if the process, which has ended, failed."""
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, self.command)


def train_within(program: Program, folder: Path, epochs: int, deadline: Deadline) -> bool:
    """Train until the deadline, or until an epoch has ended and another one would not fit.

    Args:
        program: that trains into `folder`, or goes on there.
        folder: of the run, which exists.
        epochs: of the whole run.
        deadline: a process that still runs then is stopped.

    Returns:
        Whether the process ended by itself.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    watch = _Watch(folder)
    with program.start() as process:
        while True:
            is_running = process.poll() is None
            is_late = deadline.has_passed()
            if watch.has_epoch_ended(time.monotonic()) and deadline.left() < MARGIN * watch.seconds:
                is_late = watch.epoch + 1 < epochs
                time.sleep(SETTLE_SECONDS)  # YOLOv5 saves its best checkpoint after the last one
            if not is_running:
                break
            if is_late:
                process.terminate()
                return False
            time.sleep(POLL_SECONDS)
    program.check(process)
    return True


class _Watch:
    """Sees epochs of one process end, and notes them.

    Attributes:
        epoch: the last one that ended, from 0; -1 before the first of this process.
        seconds: of that epoch.
    """

    def __init__(self, folder: Path) -> None:
        self.epoch, self.seconds = -1, 0.0
        self._folder, self._start = folder, time.monotonic()
        self._saved = self._version()

    def has_epoch_ended(self, now: float) -> bool:
        """Whether another one has ended since the last call, to be called often."""
        if self._version() == self._saved or last_epoch(self._folder) == self.epoch:
            return False
        is_first, self.seconds = self.epoch < 0, now - self._start
        self._saved, self._start, self.epoch = self._version(), now, last_epoch(self._folder)
        with (self._folder / EPOCHS_FILE).open("a", encoding="utf-8") as file:
            line = {"epoch": self.epoch, "seconds": None if is_first else self.seconds}
            file.write(json.dumps(line) + "\n")
        return True

    def _version(self) -> int:
        """Another number after each time that the checkpoint was written; 0 without one."""
        last = self._folder / "weights" / "last.pt"
        return last.stat().st_mtime_ns if last.exists() else 0


def last_epoch(folder: Path) -> int:
    """The last epoch in a run's results.csv, from 0; -1 if there is none."""
    path = folder / "results.csv"
    if not path.exists():
        return -1
    with path.open(encoding="utf-8") as file:
        rows = [int(row["epoch"]) for row in csv.DictReader(file, skipinitialspace=True)]
    return rows[-1] if rows else -1


def epochs_of(folder: Path) -> list[dict[str, Any]]:
    """The epochs of a run that have ended, in order; the last of those with the same number."""
    path = folder / EPOCHS_FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = {row["epoch"]: row for row in map(json.loads, lines)}
    return [rows[epoch] for epoch in sorted(rows)]
