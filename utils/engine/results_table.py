"""`results.csv`: one row per epoch, with YOLOv5's columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.optim import Optimizer

from utils.device import peak_memory_mb
from utils.engine.evaluate import Evaluation
from utils.logs import format_duration
from utils.output_files import atomic_path

COLUMNS = (
    "epoch",
    "train/box_loss",
    "train/obj_loss",
    "train/cls_loss",
    "metrics/precision",
    "metrics/recall",
    "metrics/mAP_0.5",
    "metrics/mAP_0.5:0.95",
    "val/box_loss",
    "val/obj_loss",
    "val/cls_loss",
    "x/lr0",
    "x/lr1",
    "x/lr2",
)
_WIDTH, _CONSOLE_WIDTH = 20, 11


@dataclass(frozen=True, slots=True)
class EpochRow:
    """The figures of one epoch; figures that were not measured are None."""

    epoch: int
    train_loss: tuple[float, float, float]
    precision: float | None
    recall: float | None
    AP50: float | None
    AP: float | None
    val_loss: tuple[float, float, float] | None
    learning_rates: tuple[float, float, float]

    @classmethod
    def of(
        cls,
        epoch: int,
        train_loss: tuple[float, float, float],
        evaluation: Evaluation | None,
        optimizer: Optimizer,
    ) -> EpochRow:
        """The row of an epoch that has just ended."""
        metrics = None if evaluation is None else evaluation.metrics
        biases, weights, norms = (float(group["lr"]) for group in optimizer.param_groups)
        return cls(
            epoch=epoch,
            train_loss=train_loss,
            precision=None if metrics is None else metrics.precision,
            recall=None if metrics is None else metrics.recall,
            AP50=None if metrics is None else metrics.AP50,
            AP=None if metrics is None else metrics.AP,
            val_loss=None if evaluation is None else evaluation.loss,
            learning_rates=(biases, weights, norms),
        )

    def values(self) -> tuple[float | None, ...]:
        """In the order of COLUMNS."""
        quality = (self.precision, self.recall, self.AP50, self.AP)
        val_loss = self.val_loss or (None, None, None)
        return (self.epoch, *self.train_loss, *quality, *val_loss, *self.learning_rates)


def append_row(path: Path, row: EpochRow) -> None:
    """Add a row; the first one brings the header. The file is never left with half a row."""
    before = path.read_text(encoding="utf-8") if path.exists() else _line(COLUMNS)
    line = _line(["" if value is None else f"{value:.5g}" for value in row.values()])
    with atomic_path(path) as temporary:
        temporary.write_text(before + line, encoding="utf-8")


def training_header(device: torch.device, seconds_left: float | None = None) -> str:
    """YOLOv5's names of the columns of `training_row`, and how long the run will still take.

    Args:
        device: without a GPU, memory is that of the process.
        seconds_left: None where nothing is known yet.
    """
    memory = "GPU_mem" if device.type == "cuda" else "mem"
    names = ("Epoch", memory, "box_loss", "obj_loss", "cls_loss", "Instances", "Size")
    left = "" if seconds_left is None else f"   {format_duration(seconds_left)} left"
    return "".join(name.rjust(_CONSOLE_WIDTH) for name in names) + left


def training_row(
    title: str, device: torch.device, losses: Sequence[float], instances: int, size: int
) -> str:
    """An epoch so far, in one line.

    Args:
        title: which epoch.
        device: whose memory, at its most, is shown.
        losses: mean box, objectness and class loss.
        instances: objects in the last batch.
        size: the longer side of its images in pixels.
    """
    memory = f"{peak_memory_mb(device) / 1000:.3g}G"
    cells = (title, memory, *(f"{loss:.4g}" for loss in losses), str(instances), str(size))
    return "".join(cell.rjust(_CONSOLE_WIDTH) for cell in cells)


def drop_rows_from(path: Path, epoch: int) -> None:
    """Leave only the rows of the epochs before `epoch`: the others will be trained again."""
    if not path.exists():
        return
    header, *rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [row for row in rows if int(row.partition(",")[0]) < epoch]
    with atomic_path(path) as temporary:
        temporary.write_text("".join([header, *kept]), encoding="utf-8")


def _line(cells: Sequence[str]) -> str:
    return ",".join(cell.rjust(_WIDTH) for cell in cells) + "\n"
