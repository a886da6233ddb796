"""An evaluation as a console table, a JSON report, label files and plots."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils.boxes import xyxy_to_cxcywh
from utils.engine.evaluate import Evaluation
from utils.engine.predictor import BatchPrediction
from utils.metrics.coco import CocoMetrics
from utils.metrics.confusion import ConfusionMatrix
from utils.output_files import atomic_path
from utils.plots.batch_images import save_labelled_batch, save_predicted_batch
from utils.plots.confusion import plot_confusion_matrix
from utils.plots.score_curves import plot_pr_curve, plot_score_curves
from utils.structures import Batch, ImageRecord, Targets

logger = logging.getLogger(__name__)
BATCHES_DRAWN = 3
FIGURES = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100",
    "precision", "recall", "images", "instances",
)  # fmt: skip


def evaluation_report(evaluation: Evaluation) -> dict[str, Any]:
    """The JSON of `val.py --report`."""
    metrics = evaluation.metrics
    report: dict[str, Any] = {name: getattr(metrics, name) for name in FIGURES}
    report["per_class"] = [
        {"name": row.name, "AP": row.AP, "AP50": row.AP50, "instances": row.instances}
        for row in metrics.per_class
    ]
    report["ms_per_image"] = dict(evaluation.ms_per_image)
    return report


def log_table(metrics: CocoMetrics, *, every_class: bool) -> None:
    """YOLOv5's table: a line for all classes, then one per class that has objects."""
    logger.info(
        "%22s %9s %9s %9s %9s %9s %9s", "Class", "Images", "Instances", "P", "R", "AP50", "AP"
    )
    row = "%22s %9d %9d %9.3f %9.3f %9.3f %9.3f"
    logger.info(
        row, "all", metrics.images, metrics.instances, metrics.precision, metrics.recall,
        metrics.AP50, metrics.AP,
    )  # fmt: skip
    if every_class and len(metrics.per_class) > 1:
        for result in metrics.per_class:
            if result.instances:
                logger.info(
                    "%22s %9s %9d %9s %9s %9.3f %9.3f",
                    result.name[:22], "", result.instances, "", "", result.AP50, result.AP,
                )  # fmt: skip
    logger.info(
        "AP75 %.3f, AP small/medium/large %.3f / %.3f / %.3f, AR1/10/100 %.3f / %.3f / %.3f",
        metrics.AP75, metrics.AP_small, metrics.AP_medium, metrics.AP_large,
        metrics.AR1, metrics.AR10, metrics.AR100,
    )  # fmt: skip


class EvaluationImages:
    """Draws the first batches and counts confusions while an evaluation runs, curves at its end.

    Pass it to `evaluate` as `watch`, then call `finish`.
    """

    def __init__(self, folder: Path, class_names: tuple[str, ...]) -> None:
        self.folder = folder
        self.class_names = class_names
        self.confusion = ConfusionMatrix(len(class_names))
        self.batches = 0

    def __call__(self, batch: Batch, prediction: BatchPrediction) -> None:
        """Take note of a batch and what was found in it."""
        if self.batches < BATCHES_DRAWN:
            stem = f"val_batch{self.batches}"
            save_labelled_batch(self.folder / f"{stem}_labels.jpg", batch, self.class_names)
            save_predicted_batch(
                self.folder / f"{stem}_pred.jpg", batch, prediction, self.class_names
            )
        self.batches += 1
        for number, found in enumerate(prediction.detections):
            mine = batch.image_index == number
            targets = Targets(batch.boxes[mine].numpy(), batch.class_ids[mine].numpy())
            self.confusion.update(found, targets)

    def finish(self, metrics: CocoMetrics) -> None:
        """P, R, F1 and PR curves and the confusion matrix, over the classes that have objects."""
        curves = metrics.curves
        present = np.flatnonzero(curves.present)
        if len(present):
            names = [self.class_names[class_id] for class_id in present]
            plot_score_curves(
                curves.confidence,
                curves.precision[present],
                curves.recall[present],
                names,
                self.folder,
            )
            plot_pr_curve(
                curves.recall_points,
                curves.precision_at_recall[present],
                np.array([metrics.per_class[class_id].AP50 for class_id in present]),
                names,
                self.folder / "PR_curve.png",
            )
        plot_confusion_matrix(
            self.confusion.matrix, self.class_names, self.folder / "confusion_matrix.png"
        )


def save_label_files(
    folder: Path, records: Sequence[ImageRecord], evaluation: Evaluation, *, scores: bool
) -> None:
    """One YOLO label file per image: class, centre and size as fractions, score if asked.

    Images of one name (in several folders) get `name.txt`, `name_2.txt`, ... in their order.
    """
    taken: set[str] = set()
    for record in records:
        stem, number = record.path.stem, 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{record.path.stem}_{number}"
        taken.add(stem.casefold())
        found = evaluation.detections[record.image_id]
        height, width = record.image_hw
        boxes = xyxy_to_cxcywh(found.boxes) / np.array([width, height] * 2, np.float32)
        lines = []
        for class_id, box, score in zip(found.class_ids, boxes, found.scores, strict=True):
            numbers = [*box, score] if scores else [*box]
            lines.append(" ".join([str(class_id), *(f"{number:g}" for number in numbers)]) + "\n")
        with atomic_path(folder / f"{stem}.txt") as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")
