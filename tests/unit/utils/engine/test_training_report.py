from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from utils.engine.training_report import TrainedWeights, TrainResult, log_result

WEIGHTS = TrainedWeights(Path("r/weights/best.pt"), Path("r/weights/last.pt"))
METRICS = SimpleNamespace(AP=0.25, AP50=0.5, precision=0.75, recall=0.625)
RESULT = TrainResult(6, 4, METRICS, WEIGHTS, 10.0, 20.0, 300.0, 0, Path("r"))


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


@pytest.mark.parametrize(("data", "flag"), [("my.yaml", " --data my.yaml"), ("", "")])
def test_what_is_there_and_what_to_do_next(tmp_path, caplog, data, flag):
    (tmp_path / "results.csv").touch()
    with caplog.at_level(logging.INFO):
        log_result(replace(RESULT, folder=tmp_path), data)

    assert caplog.messages == [
        f"Results saved to {tmp_path}",
        "  best.pt: epoch 5, mAP50 0.5000, mAP50-95 0.2500",
        "  last.pt: to train longer: --resume r/weights/last.pt --epochs 12",
        "  results.csv: losses and quality of every epoch",
        f"  all figures while it trains: tensorboard --logdir {tmp_path.parent}",
        "Next:",
        f"  python convert.py --weights r/weights/best.pt{flag}",
        "  python detect.py --weights r/weights/best.pt --source IMAGES",
        "  python export.py --weights r/weights/best.pt",
    ]


def test_skipped_steps_are_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        log_result(replace(RESULT, folder=tmp_path, skipped_steps=3), "")
    warnings = [entry.message for entry in caplog.records if entry.levelno == logging.WARNING]
    assert warnings == ["  3 steps were skipped"]
