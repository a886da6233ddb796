"""What is trained with which flags, and what is left to do."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import block_runs
from experiments.block_runs import (
    PLAIN,
    PRETRAINED,
    ROWS,
    BlockRun,
    Setting,
    run_logged,
    runs_of,
    warmup_epochs,
    write_hyp,
)
from experiments.limited_training import DIVERGED_FILE, EPOCHS_FILE
from experiments.run_evaluation import DRAWS_FILE, FIGURES_FILE
from models.reparam.families import block_family
from tests.unit.experiments.voc_builder import write_voc
from train import Hyperparameters
from utils.cli import parse
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


class Programs:
    """Stands for the processes of a run: each leaves the files of the real one."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.modules = epochs, list[str]()

    def __call__(self, command, environment, seconds, log):
        assert environment == {"OMP_NUM_THREADS": "1"} and seconds > 0 and log.name == "log.txt"
        _, _, module, *arguments = command
        self.modules.append(module)
        if module == "experiments.limited_training":
            line = json.dumps({"epoch": self.epochs - 1, "seconds": 1.0, "peak_memory_mb": 1.0})
            (log.parent / EPOCHS_FILE).write_text(f"{line}\n")
        else:
            assert arguments[0] == str(log.parent)
            (log.parent / FIGURES_FILE).write_text("{}")
            (log.parent / DRAWS_FILE).write_bytes(b"")


@pytest.fixture
def run(setting) -> BlockRun:
    return runs_of(setting, [PLAIN], [0])[0]


@pytest.fixture
def with_programs(monkeypatch):
    """Make runs use these programs."""
    return lambda programs: monkeypatch.setattr(block_runs, "run_logged", programs)


def test_a_run_is_trained_then_evaluated(run, with_programs):
    programs = Programs(epochs=2)
    with_programs(programs)
    assert not run.is_finished()
    run.advance(100)
    assert programs.modules == ["experiments.limited_training", "experiments.run_evaluation"]
    assert run.is_finished() and (run.folder / "commit.txt").exists()


def test_what_is_cut_off_is_not_evaluated(run, with_programs):
    with_programs(Programs(epochs=1))
    run.advance(100)
    assert not run.is_trained() and not run.is_finished()
    later = Programs(epochs=2)
    with_programs(later)
    run.advance(100)
    assert len(later.modules) == 2 and run.is_finished()


def test_what_is_trained_is_not_trained_again(run, with_programs):
    run.folder.mkdir(parents=True)
    (run.folder / "report.json").write_text("{}")
    programs = Programs(epochs=2)
    with_programs(programs)
    run.advance(100)
    assert programs.modules == ["experiments.run_evaluation"]


def test_a_process_that_outlasts_its_time_is_no_failure(run, with_programs):
    def never_ends(command, environment, seconds, log):
        raise subprocess.TimeoutExpired(command, seconds)

    with_programs(never_ends)
    run.advance(100)
    assert not run.is_trained()


def test_a_failure_is_raised(run, with_programs):
    def fails(command, *_):
        raise subprocess.CalledProcessError(2, command)

    with_programs(fails)
    with pytest.raises(subprocess.CalledProcessError):
        run.advance(100)


def test_a_run_that_diverged_is_not_repeated(run):
    run.folder.mkdir(parents=True)
    (run.folder / DIVERGED_FILE).write_text("loss\n")
    assert run.is_finished() and not run.is_trained()


@pytest.mark.parametrize(
    ("seconds", "error"),
    [(10, subprocess.CalledProcessError), (0, subprocess.TimeoutExpired)],
)
def test_programs_end_in_time_or_fail(tmp_path, seconds, error):
    code = "import os; raise SystemExit(os.environ['WHY'])"
    with pytest.raises(error):
        run_logged([sys.executable, "-c", code], {"WHY": "as told"}, seconds, tmp_path / "log.txt")
    assert (tmp_path / "log.txt").read_text() == ("as told\n" if seconds else "")
