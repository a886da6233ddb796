"""A run of train.py in limited time: `python -m experiments.limited_training SECONDS FLAGS`.

Ends when an epoch has ended and another one would not fit in SECONDS; the same command goes on from
there. Each epoch adds a line to `epochs.jsonl` in the run's folder: its number, its seconds (null
for the first one of a process, which also reads the images) and the most memory used so far in MB.
A run whose loss or gradients stay non-finite leaves `diverged.txt`.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from train import train_as_given
from utils.cli import parse
from utils.device import choose_device, peak_memory_mb
from utils.engine.resume import settings_to_continue
from utils.engine.run_folder import OnEpoch
from utils.engine.training_report import EpochRow
from utils.errors import DivergedError
from utils.logs import configure_logging
from utils.train_config import REFUSED, TrainConfig

logger = logging.getLogger(__name__)
EPOCHS_FILE, DIVERGED_FILE = "epochs.jsonl", "diverged.txt"
MARGIN = 2.0  # as many times the longest epoch so far must be left for another one
Train = Callable[[TrainConfig, OnEpoch], object]


class OutOfTimeError(Exception):
    """Another epoch would not fit."""


class Clock:
    """Notes each epoch, and ends a run that is out of time.

    Args:
        config: of the run.
        seconds: that the run has.
    """

    def __init__(self, config: TrainConfig, seconds: float) -> None:
        self._path = run_folder(config) / EPOCHS_FILE
        self._epochs, self._device = config.epochs, choose_device(config.device)
        self._last = time.monotonic()
        self._end, self._longest, self._is_first = self._last + seconds, 0.0, True

    def __call__(self, row: EpochRow) -> None:
        """Called when an epoch is saved.

        Raises:
            OutOfTimeError: there is another epoch, for which there is no time.
        """
        now = time.monotonic()
        took, self._last = now - self._last, now
        line = {"epoch": row.epoch, "seconds": None if self._is_first else took,
                "peak_memory_mb": peak_memory_mb(self._device)}  # fmt: skip
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._longest, self._is_first = max(self._longest, took), False
        if row.epoch + 1 < self._epochs and self._end - now < MARGIN * self._longest:
            raise OutOfTimeError(f"epoch {row.epoch + 1} of {self._epochs}")


def run_folder(config: TrainConfig) -> Path:
    """Where the run's files go."""
    return Path(config.project) / config.name


def epochs_of(folder: Path) -> list[dict[str, Any]]:
    """The epochs of a run that have ended, in order; the last of those with the same number."""
    path = folder / EPOCHS_FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = {row["epoch"]: row for row in map(json.loads, lines)}
    return [rows[epoch] for epoch in sorted(rows)]


def config_of(flags: Sequence[str]) -> TrainConfig:
    """The run of train.py's flags, or where it stood."""
    config = parse(TrainConfig, flags, REFUSED)
    last = run_folder(config) / "weights" / "last.pt"
    if last.exists():
        stood = settings_to_continue(TrainConfig(resume=str(last)))
        return parse(TrainConfig, (*flags, "--resume", str(last)), REFUSED, stood)
    for name in ("results.csv", EPOCHS_FILE):  # of a run that was cut off in its first epoch
        (run_folder(config) / name).unlink(missing_ok=True)
    return config


def train_within(flags: Sequence[str], seconds: float, train: Train = train_as_given) -> bool:
    """Train or go on; whether that was to the end.

    Args:
        flags: of train.py, with --project, --name and --exist-ok.
        seconds: from now.
        train: train.py's function.
    """
    config = config_of(flags)
    try:
        train(config, Clock(config, seconds))
    except OutOfTimeError as error:
        logger.info("Out of time after %s", error)
        return False
    except DivergedError as error:
        (run_folder(config) / DIVERGED_FILE).write_text(f"{error}\n", encoding="utf-8")
        raise
    return True


def main() -> None:
    """Train as the command line says."""
    configure_logging()
    seconds, *flags = sys.argv[1:]
    train_within(flags, float(seconds))


if __name__ == "__main__":
    main()
