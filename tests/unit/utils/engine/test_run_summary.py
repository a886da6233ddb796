from __future__ import annotations

import logging

import pytest

from utils.engine.run_summary import log_run_summary
from utils.train_config import largest_useful_batch

REPORT = {
    "weights": {"best": "r/weights/best.pt", "last": "r/weights/last.pt"},
    "best_epoch": 4,
    "epochs": 6,
    "AP": 0.25,
    "AP50": 0.5,
    "skipped_steps": 0,
}


@pytest.mark.parametrize(("data", "evaluated"), [("my.yaml", " --data my.yaml"), ("", "")])
def test_what_is_there_and_what_to_do_next(tmp_path, caplog, data, evaluated):
    (tmp_path / "results.csv").touch()
    with caplog.at_level(logging.INFO):
        log_run_summary(tmp_path, REPORT, data)

    assert caplog.messages == [
        f"Results saved to {tmp_path}",
        "  best.pt: epoch 5, AP 0.2500, AP50 0.5000",
        "  last.pt: to train on: --resume r/weights/last.pt --epochs 12",
        "  results.csv: every epoch's figures",
        f"  all figures while it trains: tensorboard --logdir {tmp_path.parent}",
        "Next:",
        f"  python convert.py --weights r/weights/best.pt{evaluated}",
        "  python detect.py --weights r/weights/best.pt --source IMAGES",
        "  python export.py --weights r/weights/best.pt",
    ]


def test_skipped_steps_are_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        log_run_summary(tmp_path, {**REPORT, "skipped_steps": 3}, "")
    warnings = [entry.message for entry in caplog.records if entry.levelno == logging.WARNING]
    assert warnings == ["  3 steps were skipped"]


@pytest.mark.parametrize(("images", "most"), [(1, 1), (13, 13), (50, 16), (160, 16), (1000, 100)])
def test_a_measured_batch_leaves_steps_to_an_epoch(images, most):
    assert largest_useful_batch(images) == most
