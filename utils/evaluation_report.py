"""An evaluation as a console table, label files and plots."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.batches import LabelledBatch
from utils.boxes import xyxy_to_cxcywh
from utils.engine.evaluate import Evaluation
from utils.engine.predictor import BatchPrediction
from utils.errors import MissingPackageError
from utils.metrics.coco import ClassResult, CocoMetrics
from utils.metrics.matches import SCORE_THRESHOLD
from utils.output_files import atomic_path, short_stem
from utils.plots.batch_images import save_labelled_batch, save_predicted_batch
from utils.plots.confusion import plot_confusion_matrix
from utils.plots.score_curves import plot_pr_curve, plot_score_curves
from utils.structures import ImageRecord

logger = logging.getLogger(__name__)
BATCHES_DRAWN = 3


def log_table(metrics: CocoMetrics, *, every_class: bool) -> None:
    """YOLOv5's table: a row for all classes and, with `every_class`, one per class with objects."""
    titles = ("Class", "Images", "Instances", "P", "R", "mAP50", "mAP50-95")
    logger.info("%22s %9s %9s %9s %9s %9s %9s", *titles)
    _log_row("all", metrics)
    if every_class and len(metrics.per_class) > 1:
        for result in metrics.per_class:
            if result.instances:
                _log_row(result.name, result)
    logger.info(
        "mAP75 %.3f, mAP small/medium/large %.3f / %.3f / %.3f, AR 1/10/100 %.3f / %.3f / %.3f",
        metrics.AP75, metrics.AP_small, metrics.AP_medium, metrics.AP_large,
        metrics.AR1, metrics.AR10, metrics.AR100,
    )  # fmt: skip


def _log_row(name: str, found: CocoMetrics | ClassResult) -> None:
    logger.info(
        "%22s %9d %9d %9.3f %9.3f %9.3f %9.3f",
        name[:22], found.images, found.instances, found.precision, found.recall,
        found.AP50, found.AP,
    )  # fmt: skip


class EvaluationImages:
    """Draws the first batches while an evaluation runs, and curves at its end.

    Pass it to `evaluate` as `watch`, then call `finish`.
    """

    def __init__(
        self, folder: Path, class_names: tuple[str, ...], *, score_threshold: float = 0.0
    ) -> None:
        """Choose where to draw; no detection scores below `score_threshold`."""
        self.folder = folder
        self.class_names = class_names
        self.score_threshold = score_threshold
        self.batches = 0

    def __call__(self, batch: LabelledBatch, prediction: BatchPrediction) -> None:
        """Save val_batch*_labels.jpg and val_batch*_pred.jpg of the first three batches."""
        if self.batches < BATCHES_DRAWN:
            stem = f"val_batch{self.batches}"
            save_labelled_batch(self.folder / f"{stem}_labels.jpg", batch, self.class_names)
            save_predicted_batch(
                self.folder / f"{stem}_pred.jpg", batch, prediction, self.class_names
            )
        self.batches += 1

    def finish(self, metrics: CocoMetrics) -> None:
        """P, R, F1 and PR curves and the confusion matrix, over the classes that have objects.

        Where matplotlib is missing they are omitted with a warning: the evaluation is done.
        """
        try:
            self._draw_figures(metrics)
        except MissingPackageError as error:
            logger.warning("no curves and no confusion matrix: %s", error)

    def _draw_figures(self, metrics: CocoMetrics) -> None:
        curves = metrics.curves
        present = np.flatnonzero(curves.present)
        if len(present):
            names = {int(class_id): self.class_names[class_id] for class_id in present}
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
            metrics.confusion,
            self.class_names,
            self.folder / "confusion_matrix.png",
            score_threshold=max(SCORE_THRESHOLD, self.score_threshold),
        )


def save_label_files(
    folder: Path, records: Sequence[ImageRecord], evaluation: Evaluation, *, scores: bool
) -> None:
    """One YOLO label file per image: class, centre and size as fractions, score if asked.

    Images of one name (in several folders) get `name.txt`, `name_2.txt`, ... in their order.
    """
    taken: set[str] = set()
    for record in records:
        short = stem = short_stem(record.path.stem)
        number = 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{short}_{number}"
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
