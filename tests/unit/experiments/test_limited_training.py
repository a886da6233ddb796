"""Trainings are watched: their epochs are noted, and they end when another would not fit."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from experiments import limited_training
from experiments.deadline import Deadline
from experiments.limited_training import (
    EPOCHS_FILE,
    Program,
    epochs_of,
    last_epoch,
    train_within,
)

# Writes an epoch each `pause` seconds, as train.py does: figures first, then the checkpoint.
TRAINER = """
import pathlib, sys, time
folder, epochs, pause = pathlib.Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
results, last = folder / "results.csv", folder / "weights" / "last.pt"
last.parent.mkdir(exist_ok=True)
done = len(results.read_text().splitlines()) - 1 if results.exists() else 0
for epoch in range(done, epochs):
    time.sleep(pause)
    rows = results.read_text() if results.exists() else "  epoch,  loss\\n"
    results.write_text(rows + f"  {epoch},  0.1\\n")
    last.write_text(f"{epoch}")
print("trained", epochs)
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(limited_training, "POLL_SECONDS", 0.005)
    monkeypatch.setattr(limited_training, "SETTLE_SECONDS", 0.0)


def trainer(folder, epochs: int, pause: float) -> Program:
    command = (sys.executable, "-c", TRAINER, str(folder), str(epochs), str(pause))
    return Program(command, {}, folder / "log.txt")


def test_training_to_the_end(tmp_path):
    assert train_within(trainer(tmp_path, 3, 0.1), tmp_path, 3, Deadline(60))
    first, *others = epochs_of(tmp_path)
    assert [each["epoch"] for each in (first, *others)] == [0, 1, 2]
    assert first["seconds"] is None
    assert all(0.05 < each["seconds"] < 10 for each in others)
    assert "trained 3" in (tmp_path / "log.txt").read_text()


def test_training_ends_where_another_epoch_would_not_fit(tmp_path, monkeypatch):
    """And the same call goes on there."""
    with monkeypatch.context() as careful:
        careful.setattr(limited_training, "MARGIN", 1e6)
        assert not train_within(trainer(tmp_path, 3, 0.1), tmp_path, 3, Deadline(60))
    assert [each["epoch"] for each in epochs_of(tmp_path)] == [0]
    assert train_within(trainer(tmp_path, 3, 0.1), tmp_path, 3, Deadline(60))
    assert [each["epoch"] for each in epochs_of(tmp_path)] == [0, 1, 2]
    assert (tmp_path / "weights" / "last.pt").read_text() == "2"


def test_the_last_epoch_is_followed_by_what_ends_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(limited_training, "MARGIN", 1e6)
    assert train_within(trainer(tmp_path, 1, 0.0), tmp_path, 1, Deadline(60))


def test_an_epoch_that_takes_too_long_is_cut_off(tmp_path):
    start = time.monotonic()
    assert not train_within(trainer(tmp_path, 1, 60), tmp_path, 1, Deadline(0.2))
    assert time.monotonic() - start < 30 and epochs_of(tmp_path) == []


def test_training_that_fails(tmp_path):
    program = Program((sys.executable, "-c", "raise SystemExit(2)"), {}, tmp_path / "log.txt")
    with pytest.raises(subprocess.CalledProcessError) as error:
        train_within(program, tmp_path, 1, Deadline(60))
    assert error.value.returncode == 2


def test_a_program_that_ends_in_time(tmp_path):
    code = "import os; print(os.environ['WHO'], os.environ['OMP_WAIT_POLICY'])"
    log = tmp_path / "log.txt"
    log.write_text("before\n")
    environment = {"WHO": "it", "OMP_WAIT_POLICY": "PASSIVE"}
    assert Program((sys.executable, "-c", code), environment, log).run(Deadline(60))
    assert log.read_text() == "before\nit PASSIVE\n"


def test_a_program_that_does_not(tmp_path):
    program = Program((sys.executable, "-c", "input()"), {}, tmp_path / "log.txt")
    assert not program.run(Deadline(0))


def test_a_program_that_fails(tmp_path):
    program = Program((sys.executable, "-c", "raise SystemExit('why')"), {}, tmp_path / "log.txt")
    with pytest.raises(subprocess.CalledProcessError):
        program.run(Deadline(60))
    assert (tmp_path / "log.txt").read_text() == "why\n"


def test_a_repeated_epoch_counts_once(tmp_path):
    lines = [{"epoch": 0}, {"epoch": 1, "seconds": 1}, {"epoch": 1, "seconds": 2}]
    (tmp_path / EPOCHS_FILE).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert epochs_of(tmp_path) == [lines[0], lines[2]]


def test_no_epochs(tmp_path):
    assert epochs_of(tmp_path) == [] and last_epoch(tmp_path) == -1
    (tmp_path / "results.csv").write_text("epoch, loss\n")
    assert last_epoch(tmp_path) == -1
