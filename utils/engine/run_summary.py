"""The last words of a training run: where everything is, and what to do next."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)
WHAT_FILES_SHOW = (  # patterns in the run's folder, and what they are good for
    (("results.csv", "results.png"), "every epoch's figures"),
    (("labels.jpg", "train_batch*.jpg"), "what it learnt from"),
    (("val_batch*.jpg",), "labels and detections side by side"),
    (("*_curve.png", "confusion_matrix.png"), "which score threshold to take, what it mixes up"),
    (("skipped_batches.txt",), "images whose loss or gradients were no numbers"),
)


def log_run_summary(folder: Path, report: Mapping[str, Any], data: str) -> None:
    """Say what a run left behind and which commands make use of it.

    Args:
        folder: of the run.
        report: as `train.py --report` writes it.
        data: the data yaml; empty where the network cannot be evaluated on it.
    """
    best, last = report["weights"]["best"], report["weights"]["last"]
    logger.info("Results saved to %s", folder)
    logger.info("  best.pt: epoch %d, AP %.4f, AP50 %.4f", report["best_epoch"] + 1, report["AP"],
                report["AP50"])  # fmt: skip
    logger.info("  last.pt: to train on: --resume %s --epochs %d", last, 2 * report["epochs"])
    for patterns, meaning in WHAT_FILES_SHOW:
        names = [pattern for pattern in patterns if any(folder.glob(pattern))]
        if names:
            logger.info("  %s: %s", ", ".join(names), meaning)
    logger.info("  all figures while it trains: tensorboard --logdir %s", folder.parent)
    if report["skipped_steps"]:
        logger.warning("  %d steps were skipped", report["skipped_steps"])
    logger.info("Next:")
    logger.info("  python convert.py --weights %s%s", best, f" --data {data}" if data else "")
    logger.info("  python detect.py --weights %s --source IMAGES", best)
    logger.info("  python export.py --weights %s", best)
