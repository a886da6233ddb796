"""What is trained with which flags, and what is left to do."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path

import pytest

from experiments import block_runs
from experiments.block_runs import (
    DIVERGED,
    DIVERGED_FILE,
    PLAIN,
    PRETRAINED,
    ROWS,
    BlockRun,
    Setting,
    runs_of,
    warmup_epochs,
    write_hyp,
)
from experiments.deadline import Deadline
from experiments.limited_training import EPOCHS_FILE, Program
from experiments.run_evaluation import DRAWS_FILE, FIGURES_FILE
from models.reparam.families import block_family
from tests.unit.experiments.voc_builder import write_voc
from train import Hyperparameters
from utils.cli import parse
from utils.engine import epoch
from utils.engine.resume import CHANGEABLE
from utils.train_config import REFUSED, TrainConfig

BY_NAME = {row.name: row for row in ROWS}


@pytest.fixture
def setting(tmp_path) -> Setting:
    return Setting(write_voc(tmp_path / "shared"), tmp_path / "runs", 2, 96)


def config_of(run: BlockRun) -> TrainConfig:
    return parse(TrainConfig, list(run.flags()), REFUSED)


def test_rows_have_names_of_their_own_and_known_blocks():
    assert len(BY_NAME) == len(ROWS) and ROWS[0] == PLAIN
    for row in ROWS:
        if row.rep_block != "none":
            block_family(row.rep_block, row.name)
        assert not row.scales_of or BY_NAME[row.scales_of].rep_block == "LinearAdd"


def test_the_flags_are_those_of_train(setting):
    (run,) = runs_of(setting, [BY_NAME["RepVGG, LeakyReLU"]], [1])
    config = config_of(run)
    assert (config.rep_block, config.activation) == ("RepVGG(start=plain)", "LeakyReLU(0.1)")
    assert (config.imgsz, config.epochs, config.batch_size, config.seed) == (96, 2, 16, 1)
    assert (config.weights, config.teacher, config.scales) == ("", "", "")
    assert Path(config.project) / config.name == run.folder


def test_trained_weights_to_start_from(setting):
    setting = dataclasses.replace(setting, start=PRETRAINED)
    (run,) = runs_of(setting, [PLAIN], [0])
    assert config_of(run).weights == str(setting.shared / "weights" / "yolov5n.pt")
    assert "from_yolov5n" in run.folder.name


def test_rows_of_another_start_are_skipped(setting):
    setting = dataclasses.replace(setting, start=PRETRAINED)
    assert runs_of(setting, [BY_NAME["straight, OREPA"]], [0]) == []


def test_scales_are_searched_first_with_the_same_seed(setting):
    runs = runs_of(setting, [BY_NAME["RepOpt, searched scales"], BY_NAME["LinearAdd"]], [0, 1])
    assert [(run.row.name, run.seed) for run in runs] == [
        ("LinearAdd", 0), ("RepOpt, searched scales", 0),
        ("LinearAdd", 1), ("RepOpt, searched scales", 1),
    ]  # fmt: skip
    assert runs[3].needs == (runs[2],)
    assert config_of(runs[3]).scales == str(runs[2].folder / "weights" / "best.pt")


def test_a_taught_row_has_runs_of_its_own(setting):
    taught = BY_NAME["RepOpt, searched scales"].taught_by("teacher.pt")
    scales, run = runs_of(setting, [taught, BY_NAME["LinearAdd"].taught_by("teacher.pt")], [0])
    assert config_of(run).teacher == config_of(scales).teacher == "teacher.pt"
    assert "with_teacher" in scales.folder.name and "with_teacher" in run.folder.name


def test_settings_do_not_share_runs(setting):
    changes = [{}, {"epochs": 3}, {"image_size": 64}, {"amp": "bf16"}, {"start": PRETRAINED},
               {"eval_interval": 5}, {"batch_size": 8}, {"data_name": "bccd"}]  # fmt: skip
    settings = [dataclasses.replace(setting, **change) for change in changes]
    rows = (*ROWS, *(row.taught_by("teacher.pt") for row in ROWS))
    folders = {each.folder(row, seed) for each in settings for row in rows for seed in (0, 1)}
    assert len(folders) == len(settings) * len(rows) * 2


def test_folders_of_committed_reports(setting):
    bccd = Setting(setting.shared, setting.runs, 60, 128, "bccd", 8, "bf16")
    folder = bccd.folder(BY_NAME["OREPA, start=paper"], 1)
    assert folder.name == "bccd_OREPA_start=paper_128px_60epochs_batch8_bf16_seed1"


@pytest.mark.parametrize("batch_size", [8, 16])
def test_a_step_per_batch(setting, batch_size):
    setting = dataclasses.replace(setting, batch_size=batch_size)
    hyp = Hyperparameters.read(str(write_hyp(setting)))
    assert hyp.optimizer.accumulate(batch_size) == 1


@pytest.mark.parametrize(("epochs", "warmup"), [(5, 0.5), (30, 3), (300, 3)])
def test_warm_up_is_short_in_short_runs(setting, epochs, warmup):
    setting = dataclasses.replace(setting, epochs=epochs)
    assert warmup_epochs(setting) == warmup
    assert Hyperparameters.read(str(write_hyp(setting))).optimizer.warmup_epochs == warmup


class Trainer:
    """Stands for train.py: comes as far as `epochs`, or fails with that exit code."""

    def __init__(self, epochs: int, code: int = 0, said: str = "") -> None:
        self.epochs, self.code, self.said = epochs, code, said
        self.commands: list[tuple[str, ...]] = []

    def __call__(self, program: Program, folder: Path, epochs: int, deadline: Deadline) -> bool:
        assert program.environment == {"OMP_NUM_THREADS": "1"} and epochs == 2
        assert program.command[1] == "train.py" and not deadline.has_passed()
        self.commands.append(tuple(program.command[2:]))
        program.log.write_text(self.said)
        if self.code:
            raise subprocess.CalledProcessError(self.code, program.command)
        (folder / "weights").mkdir(exist_ok=True)
        (folder / "weights" / "last.pt").touch()
        lines = [json.dumps({"epoch": each, "seconds": 1.0}) for each in range(self.epochs)]
        (folder / EPOCHS_FILE).write_text("\n".join(lines))
        return self.epochs == epochs


@pytest.fixture
def run(setting, monkeypatch) -> BlockRun:
    """Its evaluation leaves its files at once."""

    def evaluate(program: Program, deadline: Deadline) -> bool:
        assert program.command[2:4] == ("experiments.run_evaluation", str(program.log.parent))
        for name in (FIGURES_FILE, DRAWS_FILE):
            (program.log.parent / name).touch()
        return True

    monkeypatch.setattr(Program, "run", evaluate)
    return runs_of(setting, [PLAIN], [0])[0]


@pytest.fixture
def trained_by(monkeypatch):
    """Make runs use this trainer."""
    return lambda trainer: monkeypatch.setattr(block_runs, "train_within", trainer)


def test_a_run_is_trained_then_evaluated(run, trained_by):
    trained_by(Trainer(epochs=2))
    assert not run.is_finished()
    run.advance(Deadline(100))
    assert run.is_finished() and (run.folder / "commit.txt").exists()


def test_what_is_cut_off_goes_on(run, trained_by):
    first, second = Trainer(epochs=1), Trainer(epochs=2)
    trained_by(first)
    run.advance(Deadline(100))
    assert not run.is_trained() and not (run.folder / FIGURES_FILE).exists()
    trained_by(second)
    run.advance(Deadline(100))
    assert run.is_finished()
    start, resumed = (parse(TrainConfig, list(each.commands[0]), REFUSED)
                      for each in (first, second))  # fmt: skip
    assert start.resume is None and start.seed == 0
    assert resumed.resume == str(run.folder / "weights" / "last.pt")
    assert start.report == resumed.report == str(run.folder / "report.json")
    changed = {field.name for field in dataclasses.fields(TrainConfig)
               if getattr(resumed, field.name) != field.default}  # fmt: skip
    assert changed - {"resume"} <= CHANGEABLE


def test_a_run_that_saved_nothing_starts_anew(run, trained_by):
    """Its rows would come before those of the new run."""
    run.folder.mkdir(parents=True)
    (run.folder / "results.csv").write_text("epoch\n0\n")
    trainer = Trainer(epochs=2)
    trained_by(trainer)
    run.advance(Deadline(100))
    assert "--resume" not in trainer.commands[0]
    assert not (run.folder / "results.csv").exists()


def test_what_is_trained_is_not_trained_again(run, trained_by):
    run.folder.mkdir(parents=True)
    (run.folder / "report.json").write_text("{}")
    trainer = Trainer(epochs=2)
    trained_by(trainer)
    run.advance(Deadline(100))
    assert run.is_finished() and trainer.commands == []
    assert not (run.folder / "commit.txt").exists()  # of the code that trained


def test_a_failure_is_raised(run, trained_by):
    trained_by(Trainer(epochs=0, code=2, said="error: --data: no such file\n"))
    with pytest.raises(subprocess.CalledProcessError):
        run.advance(Deadline(100))
    assert not run.is_finished()


def test_a_run_that_diverges_is_finished(run, trained_by):
    trained_by(Trainer(epochs=0, code=1, said=f"failed: 10 in a row: {DIVERGED}; try\n"))
    run.advance(Deadline(100))
    assert run.is_finished() and not run.is_trained()
    assert (run.folder / DIVERGED_FILE).exists()


def test_train_says_so_when_it_has_diverged():
    assert DIVERGED in Path(epoch.__file__).read_text(encoding="utf-8")
