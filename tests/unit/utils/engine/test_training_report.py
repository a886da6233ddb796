from __future__ import annotations

import functools
import logging
import platform
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from utils.device import describe_device
from utils.engine import training_report
from utils.engine.distributed import Ranks
from utils.engine.training_report import (
    TrainedWeights,
    TrainResult,
    log_banner,
    log_result,
    project_commit,
)
from utils.logs import SCRIPTS_FOLDER, command_text
from utils.train_config import TrainConfig

WEIGHTS = TrainedWeights(Path("r/weights/best.pt"), Path("r/weights/last.pt"))
METRICS = SimpleNamespace(AP=0.25, AP50=0.5, precision=0.75, recall=0.625)
RESULT = TrainResult(6, 4, METRICS, WEIGHTS, 10.0, 20.0, 300.0, 0, Path("r"),
                     Path("my images/a.jpg"))  # fmt: skip


def test_the_report_has_the_documented_keys_in_order():
    assert list(RESULT.as_report().items()) == [
        ("epochs", 6),
        ("best_epoch", 4),
        ("AP", 0.25),
        ("AP50", 0.5),
        ("precision", 0.75),
        ("recall", 0.625),
        ("weights", {"best": "r/weights/best.pt", "last": "r/weights/last.pt"}),
        ("seconds", 10.0),
        ("images_per_second", 20.0),
        ("peak_memory_mb", 300.0),
        ("skipped_steps", 0),
    ]


def test_what_is_there_and_what_to_do_next(tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(SCRIPTS_FOLDER)
    (tmp_path / "results.csv").touch()
    with caplog.at_level(logging.INFO):
        log_result(replace(RESULT, folder=tmp_path), TrainConfig(data="my data.yaml"))

    python = command_text("x.py").removesuffix(" x.py")
    assert caplog.messages == [
        f"Results saved to {tmp_path}",
        "  best.pt: epoch 5, mAP50 0.5000, mAP50-95 0.2500",
        "  results.csv: losses and quality of every epoch",
        "Next:",
        f"  {python} convert.py --weights r/weights/best.pt --data 'my data.yaml'",
        f"  {python} detect.py --weights r/weights/best.pt --source 'my images/a.jpg'",
        f"  {python} export.py --weights r/weights/best.pt",
        f"To train longer: {python} train.py --resume r/weights/last.pt --epochs 12",
        f"All figures while it trains: tensorboard --logdir {tmp_path.parent}",
    ]


@pytest.mark.parametrize(("patience", "given"), [(1, True), (2, False), (0, False)])
def test_a_run_that_lost_patience_goes_on_with_more(tmp_path, caplog, patience, given):
    """Epoch 5 of 6 was the best: one has passed since."""
    with caplog.at_level(logging.INFO):
        log_result(replace(RESULT, folder=tmp_path), TrainConfig(patience=patience))
    (line,) = [each for each in caplog.messages if each.startswith("To train longer")]
    assert line.endswith(" --patience 2") == given


def test_skipped_steps_are_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        log_result(replace(RESULT, folder=tmp_path, skipped_steps=3), TrainConfig())
    warnings = [entry.message for entry in caplog.records if entry.levelno == logging.WARNING]
    assert warnings == ["  3 steps were skipped"]


def banner(caplog, config=None, hyp=None, ranks=None) -> list[str]:
    default = {"lr0": 0.01, "nbs": 64.0}
    given = (config or TrainConfig(), {**default, **(hyp or {})}, default)
    with caplog.at_level(logging.INFO):
        log_banner(*given, torch.device("cpu"), ranks or Ranks())
    return caplog.messages


def test_the_banner_names_versions_and_what_is_not_the_default(caplog):
    config = TrainConfig(data="my data.yaml", imgsz=320, freeze=(10,), noval=True)
    versions, flags, hyp = banner(caplog, config, {"nbs": 16.0})
    assert f"torch {torch.__version__}, Python {platform.python_version()}, " in versions
    # Not to the end: the memory that is free changes.
    assert describe_device(torch.device("cpu")).partition(" threads")[0] in versions
    assert flags == (
        "Flags: --data 'my data.yaml' --imgsz 320 --noval --freeze 10 (all others are defaults)"
    )
    assert hyp == "Hyper-parameters: nbs 16.0 (default 64.0)"


def test_the_banner_of_a_run_of_defaults_has_two_lines(caplog):
    assert banner(caplog)[1:] == ["Flags: all defaults"]


def test_the_banner_counts_processes(caplog):
    assert ", 4 processes, the first on " in banner(caplog, ranks=Ranks(0, 0, 4, 4))[0]


def test_the_commit_is_that_of_this_project_only(tmp_path, monkeypatch):
    """Not of a project that it was copied into."""
    if shutil.which("git") is None:
        assert project_commit() == ""
        return
    run = functools.partial(subprocess.run, check=True, capture_output=True, cwd=tmp_path)
    author = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    run(["git", "init", "-q"])
    run(["git", *author, "commit", "-q", "--allow-empty", "-m", "first"])
    found = run(["git", "rev-parse", "--short", "HEAD"]).stdout.decode().strip()
    monkeypatch.setattr(training_report, "SCRIPTS_FOLDER", tmp_path)
    assert project_commit() == found != ""
    (tmp_path / "copied").mkdir()
    monkeypatch.setattr(training_report, "SCRIPTS_FOLDER", tmp_path / "copied")
    assert project_commit() == ""
