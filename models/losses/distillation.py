"""Learning from a larger network beside the labels (`--teacher`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.conversion.deploy import is_deployed, to_deploy
from models.losses.loss import DetectionLoss, LossTerms, paired_ciou
from models.network.box_coder import boxes_in_cell, split_anchors
from models.network.detector import Detector
from utils.batches import Batch
from utils.errors import ConfigError
from utils.logs import counted

# Boxes and classes of anchors with less objectness of the teacher carry no information.
MIN_OBJECTNESS = 0.05


def load_teacher(
    path: str | Path, student: Detector, class_names: tuple[str, ...], device: torch.device
) -> Detector:
    """A trained network in eval mode and deploy form, whose raw predictions the student can follow.

    Raises:
        CheckpointError: the file cannot be read.
        ConfigError: it was trained on other classes, or its head is another.
    """
    checkpoint = read_weights(path)
    if checkpoint.class_names != class_names:
        raise ConfigError(
            f"--teacher {path}: finds {_describe(checkpoint.class_names)}, the data set has "
            f"{_describe(class_names)}; train the teacher on this data set first"
        )
    teacher = build_from_checkpoint(checkpoint)
    heads = [
        [
            (stride, len(level))
            for stride, level in zip(model.strides, model.spec.anchors, strict=True)
        ]
        for model in (teacher, student)
    ]
    if heads[0] != heads[1]:
        raise ConfigError(
            f"--teacher {path}: has strides {teacher.strides} and "
            f"{[len(level) // 2 for level in teacher.spec.anchors]} anchors, the student "
            f"{student.strides} and {[len(level) // 2 for level in student.spec.anchors]}; "
            "take a teacher of the same family"
        )
    return (
        (teacher if is_deployed(teacher) else to_deploy(teacher)).requires_grad_(False).to(device)
    )


class DistillationLoss:
    """The labels' loss, and the same three terms with the teacher's predictions as targets.

    Every anchor follows the teacher's objectness; boxes and classes count as much as the teacher is
    sure of an object there (Mehta and Ozturk, "Object detection at 200 frames per second", 2018,
    sec. 3.2).

    Args:
        labels: the loss on the labels; its gains, balance and ranks are used for both.
        teacher: with the same anchors as the student.
        gain: of the teacher's part.
    """

    def __init__(self, labels: DetectionLoss, teacher: Detector, gain: float) -> None:
        self.labels, self.teacher, self.gain = labels, teacher, gain

    def __call__(self, raw_predictions: Sequence[Tensor], batch: Batch) -> LossTerms:
        """The loss of one batch, whose images are floats in 0-1; its parts are the labels'."""
        labels = self.labels
        of_teacher = self.distance(raw_predictions, batch.images)
        terms = labels(raw_predictions, batch)
        images = labels.ranks.average(of_teacher.new_full((), float(len(batch.images))))
        global_images = images * labels.ranks.count
        return replace(terms, total=terms.total + self.gain * of_teacher * global_images)

    def distance(self, raw_predictions: Sequence[Tensor], images: Tensor) -> Tensor:
        """How far raw predictions are from the teacher's: the three terms, weighted and summed.

        Args:
            raw_predictions: per level (B, A * (5 + C), H, W) logits of the student.
            images: (B, 3, H, W) in 0-1, which they are of.

        Returns:
            A mean over the batch. Its least value is not 0 but the teacher's own uncertainty.
        """
        with torch.no_grad():
            taught = self.teacher(images)
        labels, coder = self.labels, self.labels.coder
        box, objectness, class_ = (torch.zeros((), device=images.device) for _ in range(3))
        levels = zip(
            raw_predictions, taught, coder.anchors, coder.strides, labels.balance, strict=False
        )
        for raw, target, anchors, stride, weight in levels:
            in_cells = tuple(side / stride for side in anchors)
            level_box, level_objectness, level_class = self._level_terms(raw, target, in_cells)
            box, class_ = box + level_box, class_ + level_class
            objectness = objectness + weight * level_objectness
        return (
            box * labels.box_gain + objectness * labels.objectness_gain + class_ * labels.class_gain
        )

    def _level_terms(
        self, raw: Tensor, target: Tensor, anchors: tuple[float, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Box, objectness and class terms of one level, each a mean over the whole batch.

        `anchors` are flat (w1, h1, w2, h2, ...) in cells, the unit of `boxes_in_cell`.
        """
        count, ranks = len(anchors) // 2, self.labels.ranks
        maps, taught = split_anchors(raw, count).float(), split_anchors(target, count).float()
        taught = taught.sigmoid()
        sure = taught[..., 4]
        cells = ranks.average(sure.new_full((), float(sure.numel())))
        objectness = F.binary_cross_entropy_with_logits(maps[..., 4], sure, reduction="sum") / cells
        heeded = sure > MIN_OBJECTNESS
        weight = sure[heeded]
        mean_weight = ranks.average(weight.sum()).clamp(min=1e-6)
        sizes = raw.new_tensor(anchors).view(1, count, 1, 1, 2).expand(*sure.shape, 2)[heeded]
        logits, taught = maps[heeded], taught[heeded]
        boxes, target_boxes = (boxes_in_cell(each, sizes) for each in (logits.sigmoid(), taught))
        unlike = 1 - paired_ciou(boxes, target_boxes)
        box = (weight * unlike).sum() / mean_weight
        if self.labels.num_classes == 1:  # nothing to tell apart
            return box, objectness, logits[:, 5:].sum() * 0
        per_class = F.binary_cross_entropy_with_logits(
            logits[:, 5:], taught[:, 5:], reduction="none"
        )
        return box, objectness, (weight * per_class.mean(1)).sum() / mean_weight


def _describe(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{counted(len(names), 'class')} ({shown})"
