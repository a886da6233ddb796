"""What a training run reports: the lines on the console, and its result."""

from __future__ import annotations

import logging
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from utils.device import describe_device, peak_memory_mb
from utils.engine.distributed import Ranks
from utils.logs import (
    SCRIPTS_FOLDER,
    arguments_of,
    command_text,
    format_duration,
    from_working_directory,
)
from utils.metrics.coco import CocoMetrics
from utils.train_config import TrainConfig

logger = logging.getLogger(__name__)
WHAT_FILES_SHOW = (  # patterns in the run's folder, and what they show
    (("results.csv", "results.png"), "losses and quality of every epoch"),
    (("labels.jpg", "train_batch*.jpg"), "labels and images to learn from"),
    (("val_batch*.jpg",), "labels and detections side by side"),
    (("*_curve.png", "confusion_matrix.png"), "scores against quality, classes mixed up"),
    (("skipped_batches.txt",), "images whose loss or gradients were not finite"),
)
_CELL_WIDTH = 11


def log_banner(
    config: TrainConfig,
    hyp: Mapping[str, Any],
    default_hyp: Mapping[str, Any],
    device: torch.device,
    ranks: Ranks,
) -> None:
    """Log versions, the device, and which settings are not the defaults.

    Args:
        config: the flags.
        hyp: the hyper-parameters.
        default_hyp: those that a run has which is given none.
        device: of this process.
        ranks: how many processes train together.
    """
    commit = project_commit()
    versions = [f"Commit {commit}"] if commit else []
    versions += [f"torch {torch.__version__}", f"Python {platform.python_version()}"]
    where = f"{ranks.count} processes, the first on " if ranks.count > 1 else ""
    logger.info("%s, %s%s", ", ".join(versions), where, describe_device(device))
    flags = shlex.join(arguments_of(config))
    logger.info("Flags: %s", f"{flags} (all others are defaults)" if flags else "all defaults")
    changed = [f"{name} {value} (default {default_hyp.get(name)})"
               for name, value in hyp.items() if value != default_hyp.get(name)]  # fmt: skip
    if changed:
        logger.info("Hyper-parameters: %s", ", ".join(changed))


def project_commit() -> str:
    """The commit of this project's own git folder, short; empty where that is not known."""
    if not (SCRIPTS_FOLDER / ".git").exists():  # installed elsewhere, another project's perhaps
        return ""
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        found = subprocess.run(command, cwd=SCRIPTS_FOLDER, capture_output=True, text=True,
                               check=False, timeout=5)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):  # no git
        return ""
    return found.stdout.strip()


def training_header(device: torch.device, seconds_left: float | None) -> str:
    """YOLOv5's names of the columns of `training_row`, and how long the run will still take.

    Args:
        device: without a GPU, memory is that of the process.
        seconds_left: None where nothing is known yet.
    """
    memory = "GPU_mem" if device.type == "cuda" else "mem"
    names = ("Epoch", memory, "box_loss", "obj_loss", "cls_loss", "Instances", "Size")
    left = "" if seconds_left is None else f"   {format_duration(seconds_left)} left"
    return "".join(name.rjust(_CELL_WIDTH) for name in names) + left


def training_row(
    title: str, device: torch.device, losses: Sequence[float] | None, instances: int, size: int
) -> str:
    """An epoch so far, in one line.

    Args:
        title: which epoch.
        device: whose memory, at its most, is shown.
        losses: mean box, objectness and class loss; None before there are any.
        instances: objects in the last batch.
        size: the longer side of its images in pixels.
    """
    peak = peak_memory_mb(device)
    memory = "-" if peak is None else f"{peak / 1000:.3g}G"
    known: tuple[str, ...] = ("-",) * 5
    if losses is not None:
        known = (*(f"{loss:.4g}" for loss in losses), str(instances), str(size))
    cells = (title, memory, *known)
    return "".join(cell.rjust(_CELL_WIDTH) for cell in cells)


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
        peak_memory_mb: at the most, of the GPU, or of the process without one; None if unknown.
        skipped_steps: batches and steps skipped because loss or gradients were not finite.
        folder: of the run.
        example: an image to try the network on.
    """

    epochs: int
    best_epoch: int
    metrics: CocoMetrics
    weights: TrainedWeights
    seconds: float
    images_per_second: float
    peak_memory_mb: float | None
    skipped_steps: int
    folder: Path
    example: Path

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


def log_result(result: TrainResult, config: TrainConfig) -> None:
    """Which files a run wrote, and which commands use them.

    Args:
        result: of the run.
        config: its settings.
    """
    best = result.weights.best
    logger.info("Results saved to %s", result.folder)
    logger.info("  best.pt: epoch %d, mAP50 %.4f, mAP50-95 %.4f", result.best_epoch + 1,
                result.AP50, result.AP)  # fmt: skip
    for patterns, meaning in WHAT_FILES_SHOW:
        names = [pattern for pattern in patterns if any(result.folder.glob(pattern))]
        if names:
            logger.info("  %s: %s", ", ".join(names), meaning)
    if result.skipped_steps:
        logger.warning("  %d steps were skipped", result.skipped_steps)
    example = from_working_directory(result.example)
    logger.info("Next:")
    logger.info("  %s", command_text("convert.py", "--weights", best, "--data", config.data))
    logger.info("  %s", command_text("detect.py", "--weights", best, "--source", example))
    logger.info("  %s", command_text("export.py", "--weights", best))
    logger.info("To train longer: %s", _longer(result, config))
    logger.info("All figures while it trains: %s",
                shlex.join(["tensorboard", "--logdir", str(result.folder.parent)]))  # fmt: skip


def _longer(result: TrainResult, config: TrainConfig) -> str:
    """The command that goes on, with more patience where the run has used it up."""
    arguments = ["--resume", str(result.weights.last), "--epochs", str(2 * result.epochs)]
    if 0 < config.patience <= result.epochs - 1 - result.best_epoch:
        arguments += ["--patience", str(2 * config.patience)]
    return command_text("train.py", *arguments)
