from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from utils.engine.training_report import TrainedWeights, TrainResult, log_result
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
