"""Runs end in time, and the same flags go on where they ended."""

from __future__ import annotations

import json

import pytest

from experiments import limited_training
from experiments.limited_training import (
    DIVERGED_FILE,
    EPOCHS_FILE,
    Clock,
    OutOfTimeError,
    epochs_of,
    train_within,
)
from utils.engine.training_report import EpochRow
from utils.errors import DivergedError
from utils.train_config import TrainConfig


def row(epoch: int) -> EpochRow:
    return EpochRow(epoch, (0.1, 0.1, 0.1), None, None, None, None, None, (0.01, 0.01, 0.01))


@pytest.fixture
def config(tmp_path) -> TrainConfig:
    (tmp_path / "run").mkdir()
    return TrainConfig(cfg="yolov5n.yaml", epochs=3, device="cpu", project=str(tmp_path),
                       name="run", exist_ok=True)  # fmt: skip


@pytest.fixture
def at(monkeypatch):
    """Set the time in seconds."""
    now = [0.0]
    monkeypatch.setattr(limited_training.time, "monotonic", lambda: now[0])

    def set_time(seconds: float) -> None:
        now[0] = seconds

    return set_time


def test_epochs_are_noted(config, at, tmp_path):
    clock = Clock(config, 1000)
    for epoch, seconds in enumerate((10, 18, 27)):
        at(seconds)
        clock(row(epoch))
    epochs = epochs_of(tmp_path / "run")
    assert [(each["epoch"], each["seconds"]) for each in epochs] == [(0, None), (1, 8), (2, 9)]
    assert all(each["peak_memory_mb"] > 0 for each in epochs)


def test_a_repeated_epoch_counts_once(tmp_path):
    lines = [{"epoch": 0}, {"epoch": 1, "seconds": 1}, {"epoch": 1, "seconds": 2}]
    (tmp_path / EPOCHS_FILE).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert epochs_of(tmp_path) == [lines[0], lines[2]]


def test_no_epochs(tmp_path):
    assert epochs_of(tmp_path) == []


@pytest.mark.parametrize(("seconds", "is_out"), [(29, True), (31, False)])
def test_another_epoch_has_to_fit_twice(config, at, seconds, is_out):
    clock = Clock(config, seconds)
    at(10)
    if is_out:
        with pytest.raises(OutOfTimeError):
            clock(row(0))
    else:
        clock(row(0))


def test_the_last_epoch_is_not_cut_off(config, at):
    """After it there is no epoch to go on with."""
    clock = Clock(config, 5)
    at(10)
    clock(row(2))


def flags_of(config: TrainConfig) -> list[str]:
    return ["--cfg", config.cfg, "--epochs", "3", "--device", "cpu", "--project", config.project,
            "--name", config.name, "--exist-ok"]  # fmt: skip


def test_training_to_the_end(config):
    assert train_within(flags_of(config), 1000, lambda config, clock: clock(row(2)))


def test_training_that_is_out_of_time(config):
    assert not train_within(flags_of(config), 0, lambda config, clock: clock(row(0)))


def test_a_run_that_saved_nothing_starts_anew(config, tmp_path):
    for name in ("results.csv", EPOCHS_FILE):
        (tmp_path / "run" / name).write_text('{"epoch": 0}\n')
    seen: list[TrainConfig] = []
    train_within(flags_of(config), 1000, lambda config, clock: seen.append(config))
    assert seen == [config]
    assert not (tmp_path / "run" / "results.csv").exists() and not epochs_of(tmp_path / "run")


def test_a_run_that_saved_goes_on(config, tmp_path, monkeypatch):
    """With the settings that it was started with."""
    last = tmp_path / "run" / "weights" / "last.pt"
    last.parent.mkdir()
    last.touch()
    stood = TrainConfig(cfg="yolov5n.yaml", epochs=3, seed=7, resume=str(last))
    monkeypatch.setattr(limited_training, "settings_to_continue", lambda config: stood)
    (tmp_path / "run" / EPOCHS_FILE).write_text('{"epoch": 0}\n')
    seen: list[TrainConfig] = []
    train_within(flags_of(config), 1000, lambda config, clock: seen.append(config))
    assert (seen[0].resume, seen[0].seed) == (str(last), 7)
    assert epochs_of(tmp_path / "run") == [{"epoch": 0}]


def test_divergence_is_noted(config, tmp_path):
    def diverge(config, clock):
        raise DivergedError("ten in a row")

    with pytest.raises(DivergedError):
        train_within(flags_of(config), 1000, diverge)
    assert (tmp_path / "run" / DIVERGED_FILE).read_text() == "ten in a row\n"
