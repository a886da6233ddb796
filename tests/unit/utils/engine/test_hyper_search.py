"""The search keeps what it learnt, goes on where it stopped, and gives back the best."""

from __future__ import annotations

import csv
import json
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import train as train_script
from data.synthetic.dataset import SyntheticConfig, write_dataset
from tests.model_builders import write_tiny
from utils.cli import parse
from utils.engine import hyper_search
from utils.engine.hyper_search import SPACE, search
from utils.errors import ConfigError, DivergedError
from utils.strict_mapping import to_flat
from utils.strict_yaml import read_yaml
from utils.train_config import TrainConfig

BASE = to_flat(train_script.Hyperparameters())


class Trainer:
    """Does better the nearer `scale` is to 0.2; remembers what it was asked."""

    def __init__(self) -> None:
        self.seen: list[tuple[TrainConfig, dict[str, float]]] = []

    def __call__(self, config: TrainConfig):
        hyp = read_yaml(Path(config.hyp))
        self.seen.append((config, hyp))
        AP = 1 - abs(hyp["scale"] - 0.2)
        return SimpleNamespace(AP=AP, AP50=AP)


@pytest.fixture
def quick(monkeypatch):
    """Without drawing, which takes most of the time of a search that trains nothing."""
    monkeypatch.setattr(hyper_search, "plot_search", lambda *_: None)


@pytest.fixture
def config(tmp_path) -> TrainConfig:
    return TrainConfig(cfg="tiny.yaml", evolve=6, project=str(tmp_path / "evolve"), epochs=7)


def table(folder):
    with (folder / "evolve.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_given_values_come_first_and_all_stay_within_bounds(config):
    trainer = Trainer()

    folder = Path(search(config, BASE, trainer).folder)

    assert trainer.seen[0][1] == BASE
    assert len(trainer.seen) == 6
    assert len({hyp["scale"] for _, hyp in trainer.seen}) == 6
    for each, hyp in trainer.seen:
        assert each.epochs == 7 and each.evolve is None and each.project == str(folder)
        for name, bounds in SPACE.items():
            assert bounds.low <= hyp[name] <= bounds.high
    rows = table(folder)
    best = max(rows, key=lambda row: float(row["fitness"]))
    assert read_yaml(folder / "hyp_evolve.yaml")["scale"] == float(best["scale"])
    assert [row["run"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert (folder / "evolve.png").stat().st_size > 10_000


def test_a_search_goes_on_and_repeats_the_run_it_was_cut_off_in(config, quick, caplog):
    trainer, seen = Trainer(), []

    def cut_off(one_run: TrainConfig):
        seen.append(read_yaml(Path(one_run.hyp)))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return trainer(one_run)

    with pytest.raises(KeyboardInterrupt):
        search(config, BASE, cut_off)
    assert "the same command and --name exp --exist-ok" in caplog.text
    folder = Path(search(replace(config, exist_ok=True), BASE, trainer).folder)

    assert len(table(folder)) == 6
    assert len(trainer.seen) == 6  # two before, four after
    assert trainer.seen[2][1] == seen[2]  # the one that was cut off
    again = search(replace(config, exist_ok=True, evolve=4), BASE, trainer)  # nothing left to do
    assert (again.folder, again.runs) == (str(folder), 6)
    assert len(trainer.seen) == 6


def test_more_runs_find_better_values(config, quick):
    folder = Path(search(replace(config, evolve=40), BASE, Trainer()).folder)

    fitness = [float(row["fitness"]) for row in table(folder)]
    assert max(fitness) > 0.95 > fitness[0]  # 0.7 with the given scale of 0.5
    assert sum(fitness[20:]) > sum(fitness[1:20])


def test_a_run_that_diverges_is_the_worst(config, quick):
    def diverging(one_run: TrainConfig):
        if "run2" in one_run.hyp:
            raise DivergedError("10 in a row were skipped")
        return SimpleNamespace(AP=0.3, AP50=0.5)

    rows = table(Path(search(config, BASE, diverging).folder))

    assert [float(row["fitness"]) for row in rows] == pytest.approx(
        [0.32, 0, 0.32, 0.32, 0.32, 0.32]
    )


def test_only_the_best_run_keeps_its_weights(config, quick):
    trainer = Trainer()

    def saving(one_run: TrainConfig):
        weights = Path(one_run.project, one_run.name, "weights")
        weights.mkdir(parents=True)
        (weights / "best.pt").write_bytes(b"1")
        return trainer(one_run)

    folder = Path(search(config, BASE, saving).folder)

    kept = {path.parts[-3] for path in folder.rglob("best.pt")}
    best = max(table(folder), key=lambda row: float(row["fitness"]))
    assert kept == {f"run{best['run']}"}


def test_messages(config, tmp_path, capsys, monkeypatch):
    with pytest.raises(ConfigError, match=r"^--evolve 0: must be at least 1$"):
        search(replace(config, evolve=0), BASE, Trainer())
    with pytest.raises(ConfigError, match=r"^--evolve: trains anew, so it goes without --resume"):
        search(replace(config, evolve=2, resume="last.pt"), BASE, Trainer())
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    assert train_script.main(["--evolve", "2"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: --evolve: runs one after the other, without torchrun"
    )


def test_values_out_of_bounds_are_said(config, quick, caplog):
    trainer = Trainer()
    search(replace(config, evolve=1), {**BASE, "lrf": 0.001}, trainer)
    assert trainer.seen[0][1]["lrf"] == 0.01
    assert "evolve: lrf 0.001 is searched from 0.01 to 1: the first run has 0.01" in caplog.messages


@pytest.mark.slow
def test_two_real_runs(tmp_path, capsys):
    data = write_dataset(tmp_path / "data", SyntheticConfig(images=12, size=64, seed=0))
    cfg = write_tiny(tmp_path / "tiny.yaml")
    arguments = ["--data", data, "--cfg", cfg, "--imgsz", 64, "--batch-size", 4, "--workers", 0,
             "--device", "cpu", "--amp", "off", "--epochs", 1, "--evolve", 2,
             "--project", tmp_path / "evolve", "--report", tmp_path / "r.json"]  # fmt: skip

    assert train_script.main([str(word) for word in arguments]) == 0

    out = capsys.readouterr().out
    folder = tmp_path / "evolve" / "exp"
    (line,) = [line for line in out.splitlines() if line.startswith("Next: ")]
    arguments = shlex.split(line.partition("train.py ")[2])
    suggested = parse(TrainConfig, arguments, {})
    assert suggested.hyp == str(folder / "hyp_evolve.yaml")
    assert (suggested.data, suggested.cfg, suggested.imgsz) == (str(data), str(cfg), 64)
    assert suggested.evolve is None and suggested.project == TrainConfig().project
    assert len(table(folder)) == 2
    assert (folder / "run1" / "results.csv").exists()
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["runs"] == 2 and report["hyp"] == str(folder / "hyp_evolve.yaml")


def test_a_damaged_journal_costs_one_line(config, tmp_path):
    journal = tmp_path / "evolve" / "exp" / hyper_search.JOURNAL
    journal.parent.mkdir(parents=True)
    journal.write_text("garbage\n")
    with pytest.raises(ConfigError, match=r"study.journal: is damaged .*with another --name"):
        search(replace(config, exist_ok=True), BASE, Trainer())
    assert journal.exists()


@pytest.mark.parametrize("lost", [1, 30, None], ids=["line end", "part", "all but its start"])
def test_a_search_goes_on_after_a_line_that_was_cut(config, quick, lost):
    folder = Path(search(replace(config, evolve=2), BASE, Trainer()).folder)
    journal = folder / hyper_search.JOURNAL
    content = journal.read_bytes()
    last = content.rfind(b"\n", 0, -1) + 1
    journal.write_bytes(content[: last + 1 if lost is None else -lost])
    found = search(replace(config, exist_ok=True), BASE, Trainer())
    assert found.runs == 6 == len(table(folder))
    assert search(replace(config, exist_ok=True), BASE, Trainer()).runs == 6  # it is whole again
