"""What a training run reached: as JSON, and as the last lines on the console."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.metrics.coco import CocoMetrics

logger = logging.getLogger(__name__)
WHAT_FILES_SHOW = (  # patterns in the run's folder, and what they show
    (("results.csv", "results.png"), "losses and quality of every epoch"),
    (("labels.jpg", "train_batch*.jpg"), "labels and images to learn from"),
    (("val_batch*.jpg",), "labels and detections side by side"),
    (("*_curve.png", "confusion_matrix.png"), "scores against quality, classes mixed up"),
    (("skipped_batches.txt",), "images whose loss or gradients were not finite"),
)


@dataclass(frozen=True, slots=True)
class TrainedWeights:
    """The checkpoints of a run."""

    best: Path
    last: Path


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a training run reached.

    Attributes:
        epochs: that the run has had in all, those before a `--resume` included.
        best_epoch: counted from 0.
        metrics: of the best checkpoint on the validation images.
        weights: the best and the last checkpoint.
        seconds: that this process took.
        images_per_second: training images over these seconds.
        peak_memory_mb: at the most, of the GPU, or of the process without one.
        skipped_steps: batches and steps skipped because loss or gradients were not finite.
        folder: of the run.
    """

    epochs: int
    best_epoch: int
    metrics: CocoMetrics
    weights: TrainedWeights
    seconds: float
    images_per_second: float
    peak_memory_mb: float
    skipped_steps: int
    folder: Path

    @property
    def AP(self) -> float:
        """COCO's AP (.50:.95)."""
        return self.metrics.AP

    @property
    def AP50(self) -> float:
        """AP at IoU 0.5."""
        return self.metrics.AP50

    @property
    def precision(self) -> float:
        """At the score with the best F1."""
        return self.metrics.precision

    @property
    def recall(self) -> float:
        """At the score with the best F1."""
        return self.metrics.recall

    def as_report(self) -> dict[str, Any]:
        """The JSON of `train.py --report`."""
        return {
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "AP": self.AP,
            "AP50": self.AP50,
            "precision": self.precision,
            "recall": self.recall,
            "weights": {"best": str(self.weights.best), "last": str(self.weights.last)},
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
            "peak_memory_mb": self.peak_memory_mb,
            "skipped_steps": self.skipped_steps,
        }


def log_result(result: TrainResult, data: str) -> None:
    """Which files a run wrote, and which commands use them.

    Args:
        result: of the run.
        data: the data yaml; empty where the network cannot be evaluated on it.
    """
    best, last = result.weights.best, result.weights.last
    logger.info("Results saved to %s", result.folder)
    logger.info("  best.pt: epoch %d, mAP50 %.4f, mAP50-95 %.4f", result.best_epoch + 1,
                result.AP50, result.AP)  # fmt: skip
    logger.info("  last.pt: to train longer: --resume %s --epochs %d", last, 2 * result.epochs)
    for patterns, meaning in WHAT_FILES_SHOW:
        names = [pattern for pattern in patterns if any(result.folder.glob(pattern))]
        if names:
            logger.info("  %s: %s", ", ".join(names), meaning)
    logger.info("  all figures while it trains: tensorboard --logdir %s", result.folder.parent)
    if result.skipped_steps:
        logger.warning("  %d steps were skipped", result.skipped_steps)
    logger.info("Next:")
    logger.info("  python convert.py --weights %s%s", best, f" --data {data}" if data else "")
    logger.info("  python detect.py --weights %s --source IMAGES", best)
    logger.info("  python export.py --weights %s", best)
