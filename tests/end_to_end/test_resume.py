"""A run that is cut off goes on as if nothing had happened."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import train
from data.synthetic.dataset import SyntheticConfig, write_dataset
from tests.model_builders import write_tiny
from tests.train_process import PATIENCE_SECONDS, start
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.engine.resume import settings_to_continue
from utils.train_config import NEWEST, TrainConfig

SIZE, EPOCHS = 64, 12
MAX_WAIT_SECONDS = 0.3  # after the first epoch; the others take longer


@pytest.fixture(scope="module")
def arguments(tmp_path_factory) -> list[str]:
    """The flags of a run of seconds whose steps do not repeat."""
    folder = tmp_path_factory.mktemp("resume")
    data = write_dataset(folder / "data", SyntheticConfig(images=16, size=SIZE, seed=0))
    cfg = write_tiny(folder / "tiny.yaml")
    given = ["--data", data, "--cfg", cfg, "--imgsz", SIZE, "--epochs", EPOCHS, "--batch-size", 4,
             "--workers", 0, "--device", "cpu", "--noplots", "--deterministic", "--amp", "off",
             ]  # fmt: skip
    return [str(word) for word in given]


@pytest.fixture(scope="module")
def whole(arguments, tmp_path_factory) -> Path:
    """The folder of a run that nothing disturbed."""
    project = tmp_path_factory.mktemp("whole")
    assert finish(project, *arguments, "--project", project)[0] == 0
    return project / "exp"


def tensors(value: object, folder: str = "") -> dict[str, torch.Tensor]:
    """Every tensor in nested dictionaries, lists and tuples, by its place."""
    if isinstance(value, torch.Tensor):
        return {folder: value}
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list | tuple)
        else ()
    )
    found = {}
    for key, inner in items:
        found.update(tensors(inner, f"{folder}/{key}"))
    return found


def state(folder: Path) -> dict[str, torch.Tensor]:
    """Weights, average, optimizer and random states of a run's last checkpoint."""
    last = load_checkpoint(folder / "weights" / "last.pt")
    return tensors([last.weights, last.ema_weights, last.training])


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file, skipinitialspace=True))


def finish(folder: Path, *arguments: object) -> tuple[int, str]:
    """The exit code of train.py, and what it wrote to stderr, which `folder` keeps."""
    return start(folder, *arguments).finish()


def kill_and_resume(arguments: list[str], project: Path, seed: int) -> Path:
    """The folder of a run that was killed at some moment after its first epoch, and resumed."""
    run = start(project, *arguments, "--project", project)
    last = project / "exp" / "weights" / "last.pt"
    limit = time.monotonic() + PATIENCE_SECONDS
    while not last.exists() and run.process.is_alive() and time.monotonic() < limit:
        time.sleep(0.01)
    time.sleep(random.Random(seed).uniform(0, MAX_WAIT_SECONDS))
    run.kill()
    assert load_checkpoint(last).training["epoch"] < EPOCHS - 1
    assert finish(project, "--resume", last)[0] == 0
    return project / "exp"


def assert_same_run(folder: Path, whole: Path) -> None:
    found, expected = state(folder), state(whole)
    assert found.keys() == expected.keys() and len(found) > 100
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []
    assert rows(folder) == rows(whole)
    best = [load_checkpoint(f / "weights" / "best.pt").weights for f in (folder, whole)]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[1])


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_any_moment_and_resumed_is_the_same_to_the_last_bit(
    arguments, whole, tmp_path, seed
):
    assert_same_run(kill_and_resume(arguments, tmp_path, seed), whole)


def test_so_is_one_whose_images_are_drawn_by_weight(arguments, tmp_path):
    """Which depends on each class's AP after the last epoch; sizes vary as well."""
    varied = [*arguments, "--image-weights", "--multi-scale", "--imgsz", "128"]
    assert finish(tmp_path, *varied, "--project", tmp_path / "whole")[0] == 0
    folder = kill_and_resume(varied, tmp_path / "killed", seed=2)
    assert_same_run(folder, tmp_path / "whole" / "exp")
    assert any(load_checkpoint(folder / "weights" / "last.pt").training["AP_of_class"])


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_so_is_one_in_bf16_with_channels_last(arguments, tmp_path, optimizer):
    mixed = [*arguments, "--amp", "bf16", "--channels-last", "--optimizer", optimizer]
    assert finish(tmp_path, *mixed, "--project", tmp_path / "whole")[0] == 0
    folder = kill_and_resume(mixed, tmp_path / "killed", seed=4)
    assert_same_run(folder, tmp_path / "whole" / "exp")
    assert load_checkpoint(folder / "weights" / "last.pt").config["opt"]["channels_last"] is True


@pytest.mark.slow
def test_so_is_one_whose_steps_are_multiplied(arguments, tmp_path):
    """The scales are in the checkpoint; here they were learnt, so that no default gives them."""
    searched = [*arguments, "--rep-block", "LinearAdd", "--epochs", 1, "--project", tmp_path / "s"]
    assert finish(tmp_path, *searched)[0] == 0
    best = tmp_path / "s" / "exp" / "weights" / "best.pt"
    multiplied = [*arguments, "--rep-block", "RepOpt", "--scales", best]
    assert finish(tmp_path, *multiplied, "--project", tmp_path / "whole")[0] == 0
    folder = kill_and_resume(multiplied, tmp_path / "killed", seed=3)
    assert_same_run(folder, tmp_path / "whole" / "exp")


@pytest.fixture
def finished(whole, tmp_path) -> Path:
    """A copy of the finished run that may be continued."""
    return shutil.copytree(whole, tmp_path / "runs" / "exp")


def refusal(capsys, *arguments: object) -> str:
    assert train.main([str(word) for word in arguments]) == 2
    return capsys.readouterr().err.strip()


def test_a_finished_run_can_be_extended(finished, tmp_path):
    last, report = finished / "weights" / "last.pt", tmp_path / "report.json"
    longer = ["--epochs", EPOCHS + 1, "--batch-size", 8, "--report", report]
    code, errors = finish(tmp_path, "--resume", last, *longer)
    assert code == 0, errors
    assert [row["epoch"] for row in rows(finished)] == [str(epoch) for epoch in range(EPOCHS + 1)]
    assert json.loads(report.read_text())["epochs"] == EPOCHS + 1
    assert load_checkpoint(last).config["opt"]["batch_size"] == 8


def test_a_finished_run_has_nothing_left_to_do(finished, capsys):
    last = finished / "weights" / "last.pt"
    assert refusal(capsys, "--resume", last) == (
        f"error: --resume {last}: finished after 12 epochs; to go on, give more: --epochs 24"
    )


def test_what_was_learned_with_cannot_change(finished, capsys):
    last = finished / "weights" / "last.pt"
    message = refusal(capsys, "--resume", last, "--imgsz", 96, "--epochs", 99)
    assert message.startswith(
        f"error: --imgsz 96: the run in {finished} has 64; with --resume only"
    )
    assert "--batch-size, --cache" in message


def test_the_newest_run_is_found(finished, capsys):
    older = shutil.copytree(finished, finished.parent / "exp0") / "weights" / "last.pt"
    os.utime(older, (0, 0))
    message = refusal(capsys, "--resume", "--project", finished.parent)
    assert message.startswith(
        f"error: --resume {finished / 'weights' / 'last.pt'}: finished after 12 epochs"
    )


def test_there_is_no_run(tmp_path, capsys):
    assert refusal(capsys, "--resume", "--project", tmp_path) == (
        f"error: --resume: no run with a weights/last.pt in {tmp_path}; name one: --resume PATH"
    )


def test_the_folder_of_a_run(finished, capsys):
    last = finished / "weights" / "last.pt"
    assert refusal(capsys, "--resume", finished) == (
        f"error: --resume {finished}: is the folder of a run; give {last}"
    )


def test_best_weights_do_not_say_where_the_run_stood(finished, capsys):
    best = finished / "weights" / "best.pt"
    assert refusal(capsys, "--resume", best) == (
        f"error: --resume {best}: holds weights, but not where its run stood; give the last.pt "
        "of a run, or start a new one with --weights"
    )


def test_settings_of_another_version_are_named(finished, capsys):
    last = finished / "weights" / "last.pt"
    checkpoint = load_checkpoint(last)
    checkpoint.config["opt"]["turbo"] = True
    save_checkpoint(last, checkpoint)
    assert "with settings this one does not have (turbo)" in refusal(capsys, "--resume", last)


def test_a_run_keeps_the_memory_format_that_was_chosen(finished):
    """Also where the machine that goes on would choose another; older runs had no choice."""
    last = finished / "weights" / "last.pt"
    checkpoint = load_checkpoint(last)
    assert TrainConfig().channels_last is None
    assert checkpoint.config["opt"].pop("channels_last") is False
    for stored, expected in (({"channels_last": True}, True), ({}, False)):
        config = {**checkpoint.config, "opt": {**checkpoint.config["opt"], **stored}}
        save_checkpoint(last, replace(checkpoint, config=config))
        assert settings_to_continue(TrainConfig(resume=str(last))).channels_last is expected


def test_other_classes_are_refused(finished, tmp_path, capsys):
    last = finished / "weights" / "last.pt"
    data = write_dataset(tmp_path / "data", SyntheticConfig(images=5, size=SIZE, seed=0))
    text = data.read_text()
    data.write_text(text.replace("crate", "box"))
    message = refusal(capsys, "--resume", last, "--epochs", 99, "--data", data)
    assert f"--resume {last}: was trained on" in message


def test_a_checkpoint_away_from_its_run(finished, tmp_path, capsys):
    away = tmp_path / "last.pt"
    shutil.copy(finished / "weights" / "last.pt", away)
    assert refusal(capsys, "--resume", away) == (
        f"error: --resume {away}: is not in the weights/ folder of a run, so there is nowhere to "
        "go on; put it back there"
    )


def test_a_run_that_stopped_early_needs_more_patience(finished, capsys):
    last = finished / "weights" / "last.pt"
    checkpoint = load_checkpoint(last)
    checkpoint.config["opt"]["patience"] = 2
    checkpoint.training["best"].update({"epoch": 2, "judged": 4})
    save_checkpoint(last, checkpoint)
    message = refusal(capsys, "--resume", last, "--epochs", 99)
    assert "no epoch was better for 2; to go on, give more: --patience 4" in message


def test_another_project_beside_a_path(finished, tmp_path, capsys):
    last = finished / "weights" / "last.pt"
    message = refusal(capsys, "--resume", last, "--epochs", 99, "--project", tmp_path / "other")
    assert message == (
        f"error: --project {tmp_path / 'other'}: the run goes on in {finished}; leave it out"
    )


def test_a_project_that_was_moved(finished, tmp_path, capsys):
    """The newest run is looked for where the call says, not where the run once was."""
    moved = shutil.copytree(finished.parent, tmp_path / "moved")
    message = refusal(capsys, "--resume", "--project", moved)
    last = moved / "exp" / "weights" / "last.pt"
    assert message.startswith(f"error: --resume {last}: finished after 12")
    assert settings_to_continue(TrainConfig(resume=NEWEST, project=str(moved))).project == str(
        moved
    )


def test_a_call_from_python_goes_on_with_the_settings_of_the_run(finished):
    """Without naming them again; a field that is given counts."""
    last = finished / "weights" / "last.pt"
    rows = []
    result = train.train(TrainConfig(resume=str(last), epochs=EPOCHS + 1), on_epoch=rows.append)
    assert (result.epochs, result.folder) == (EPOCHS + 1, finished)
    assert result.weights.last == last
    stored = load_checkpoint(last).config["opt"]
    assert (stored["imgsz"], stored["batch_size"], stored["epochs"]) == (SIZE, 4, EPOCHS + 1)
    # The callback gets the row of the epoch that was trained, as results.csv has it.
    (row,) = rows
    with (finished / "results.csv").open(newline="") as file:
        *_, written = csv.reader(file)
    assert row.epoch == EPOCHS and min(row.learning_rates) > 0
    for value, text in zip(row.values(), written, strict=True):
        assert value == pytest.approx(float(text), rel=1e-4)
