"""A run with a report is read, one without is trained; the rest formats numbers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from data.dataset_spec import load_dataset_spec
from data.split_spec import VocSplit
from experiments import training_runs
from experiments.training_runs import (
    ROOT,
    ap_curve,
    bccd_yaml,
    commits_of,
    mean_and_spread,
    run_script,
    train_once,
)
from utils.cli import parse
from utils.train_config import REFUSED, TrainConfig

FLAGS = ("--cfg", "yolov5n.yaml", "--seed", "1")


@pytest.fixture
def trained(monkeypatch) -> list[tuple[str, ...]]:
    """The commands that would have run; each leaves a report that numbers it."""
    commands: list[tuple[str, ...]] = []

    def train(*command: str) -> None:
        report = Path(command[command.index("--report") + 1])
        # what --exist-ok would write into, as train.py finds it
        assert not (report.parent / "results.csv").exists()
        commands.append(command)
        report.write_text(json.dumps({"run": len(commands)}))

    monkeypatch.setattr(training_runs, "run_script", train)
    monkeypatch.setattr(training_runs, "current_commit", lambda: "abc1234")
    return commands


def test_what_is_missing_is_trained(tmp_path, trained):
    folder = tmp_path / "runs" / "plain_seed1"
    assert train_once(folder, *FLAGS) == {"run": 1}
    (command,) = trained
    assert command[0] == "train.py"
    assert command[command.index("--amp") :][:2] == ("--amp", "off")
    # Last, so that they count where a flag is there twice.
    assert command[-7 - len(FLAGS) :] == (
        *FLAGS, "--project", str(folder.parent), "--name", folder.name, "--exist-ok",
        "--report", str(folder / "report.json"),
    )  # fmt: skip
    assert (folder / "commit.txt").read_text() == "abc1234"


def test_the_flags_are_flags_of_train():
    """So that a spelling mistake does not wait for the first run."""
    config = parse(TrainConfig, [*FLAGS, *training_runs._COMMON], REFUSED)
    assert (config.device, config.workers, config.seed) == ("cpu", 2, 1)


def test_what_is_there_is_read(tmp_path, trained):
    (tmp_path / "report.json").write_text('{"AP": 0.25}')
    (tmp_path / "results.csv").write_text("kept")
    assert train_once(tmp_path, *FLAGS) == {"AP": 0.25}
    assert trained == []
    assert (tmp_path / "results.csv").read_text() == "kept"
    assert not (tmp_path / "commit.txt").exists()  # of the code that trained, not of this one


def test_a_second_call_trains_no_more(tmp_path, trained):
    assert train_once(tmp_path / "a", *FLAGS) == train_once(tmp_path / "a", *FLAGS) == {"run": 1}
    assert len(trained) == 1


def test_a_run_that_was_cut_off_starts_anew(tmp_path, trained):
    """Its rows would come before those of the new run."""
    (tmp_path / "results.csv").write_text("epoch, metrics/mAP_0.5:0.95\n0, 0.1\n")
    (tmp_path / "weights").mkdir()
    assert train_once(tmp_path, *FLAGS) == {"run": 1}
    assert not (tmp_path / "results.csv").exists()
    assert (tmp_path / "weights").is_dir()


def test_a_training_that_fails_leaves_no_report(tmp_path, trained, monkeypatch):
    def fail(*command: str) -> None:
        raise subprocess.CalledProcessError(1, command)

    with monkeypatch.context() as broken:
        broken.setattr(training_runs, "run_script", fail)
        with pytest.raises(subprocess.CalledProcessError):
            train_once(tmp_path, *FLAGS)
    assert train_once(tmp_path, *FLAGS) == {"run": 1}


def test_scripts_run_in_the_root_and_must_end_well(tmp_path):
    where = tmp_path / "where.txt"
    code = f"from pathlib import Path; Path({str(where)!r}).write_text(str(Path.cwd()))"
    run_script("-c", code)
    assert where.read_text() == str(ROOT)
    with pytest.raises(subprocess.CalledProcessError):
        run_script("-c", "raise SystemExit(3)")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.5], "0.500"),  # one value spreads nowhere
        ([0.5, 0.5], "0.500 (0.000)"),
        ([0.1, 0.3], "0.200 (0.141)"),  # of a sample: root of 0.02
        ([0.31, 0.32, 0.36], "0.330 (0.026)"),
    ],
)
def test_mean_and_spread(values, text):
    assert mean_and_spread(values) == text


def test_commits_are_named_once(tmp_path):
    folders = [tmp_path / str(number) for number in range(3)]
    for folder, commit in zip(folders, ("fff0000", "aaa1111\n", "fff0000"), strict=True):
        folder.mkdir()
        (folder / "commit.txt").write_text(commit)
    assert commits_of(folders) == "aaa1111, fff0000"
    assert commits_of(folders[:1]) == "fff0000"


def test_ap_curve(tmp_path):
    header = "               epoch,  metrics/mAP_0.5,  metrics/mAP_0.5:0.95"
    rows = ["   0,   0.5,   0.25", "   1,   ,   ", "   2,   0.6,   0.125"]  # one is not evaluated
    (tmp_path / "results.csv").write_text("\n".join([header, *rows]) + "\n")
    assert ap_curve(tmp_path) == ([0, 2], [0.25, 0.125])


def test_bccd_yaml(tmp_path):
    path = bccd_yaml(tmp_path / "shared", tmp_path / "runs" / "new")
    assert path == tmp_path / "runs" / "new" / "bccd.yaml"
    spec = load_dataset_spec(str(path))
    assert spec.class_names == ("RBC", "WBC", "Platelets")
    voc = tmp_path / "shared" / "data" / "bccd"
    assert {name: spec.splits[name] for name in ("train", "val")} == {
        split: VocSplit(
            voc / "JPEGImages", voc / "Annotations", voc / "ImageSets" / "Main" / f"{split}.txt"
        )
        for split in ("train", "val")
    }
