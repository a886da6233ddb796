"""An evaluation as images and plots."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from utils.batches import LabelledBatch
from utils.engine.predictor import BatchPrediction
from utils.errors import MissingPackageError
from utils.metrics.coco import CocoMetrics
from utils.metrics.matches import SCORE_THRESHOLD
from utils.plots.batch_images import save_labelled_batch, save_predicted_batch
from utils.plots.confusion import plot_confusion_matrix
from utils.plots.score_curves import plot_pr_curve, plot_score_curves

logger = logging.getLogger(__name__)
BATCHES_DRAWN = 3


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
