"""The figures of an epoch, and their table, `results.csv`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch.optim import Optimizer

from utils.engine.evaluate import Evaluation
from utils.output_files import write_text

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
_CELL_WIDTH = 20


@dataclass(frozen=True, slots=True)
class EpochRow:
    """The figures of one epoch; figures that were not measured are None.

    Attributes:
        epoch: from 0.
        train_loss: means of box, objectness and class loss.
        precision: at the best F1, 0-1.
        recall: at the same score, 0-1.
        AP50: 0-1.
        AP: COCO's, 0-1.
        val_loss: as `train_loss`, of the validation images.
        learning_rates: of biases, weights and norms, as the epoch left them.
    """

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

    def figures(self) -> dict[str, float]:
        """What was measured and set, by the names of `results.csv`: `metrics/mAP_0.5`, ..."""
        pairs = zip(COLUMNS[1:], self.values()[1:], strict=True)
        return {name: value for name, value in pairs if value is not None}

    def values(self) -> tuple[float | None, ...]:
        """In the order of COLUMNS."""
        quality = (self.precision, self.recall, self.AP50, self.AP)
        val_loss = self.val_loss or (None, None, None)
        return (self.epoch, *self.train_loss, *quality, *val_loss, *self.learning_rates)


def append_row(path: Path, row: EpochRow) -> None:
    """Add a row; the first one brings the header. The file is never left with half a row."""
    before = path.read_text(encoding="utf-8") if path.exists() else _line(COLUMNS)
    line = _line(["" if value is None else f"{value:.5g}" for value in row.values()])
    write_text(path, before + line)


def drop_rows_from(path: Path, epoch: int) -> None:
    """Leave only the rows of the epochs before `epoch`: the others will be trained again."""
    if not path.exists():
        return
    header, *rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [row for row in rows if int(row.partition(",")[0]) < epoch]
    write_text(path, "".join([header, *kept]))


def _line(cells: Sequence[str]) -> str:
    return ",".join(cell.rjust(_CELL_WIDTH) for cell in cells) + "\n"
