"""What a prediction costs in training: YOLOv5's box, objectness and class terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.losses.assign import LevelAssignment, assign
from models.losses.ciou import paired_ciou
from models.network.box_coder import BoxCoder, boxes_in_cell, split_anchors
from utils.engine.distributed import Ranks
from utils.structures import Batch

# Weight of each level's objectness: fine levels have many cells and few objects.
_BALANCE = {3: (4.0, 1.0, 0.4)}
_BALANCE_ELSE = (4.0, 1.0, 0.25, 0.06, 0.02)


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Weights of the terms, named as in YOLOv5's hyper-parameter yamls.

    The effective gains follow YOLOv5: box * 3 / levels, cls * C / 80 * 3 / levels,
    obj * (image size / 640)^2 * 3 / levels.

    Attributes:
        box: gain of the box term.
        cls: gain of the class term.
        cls_pw: weight of positive class targets.
        obj: gain of the objectness term.
        obj_pw: weight of positive objectness targets.
        anchor_t: largest factor between object and anchor side.
        fl_gamma: focal exponent; 0 is plain cross-entropy.
        label_smoothing: epsilon of smoothed class targets.
    """

    box: float = 0.05
    cls: float = 0.5
    cls_pw: float = 1.0
    obj: float = 1.0
    obj_pw: float = 1.0
    anchor_t: float = 4.0
    fl_gamma: float = 0.0
    label_smoothing: float = 0.0


@dataclass(frozen=True, slots=True)
class LossTerms:
    """One batch's loss: `total` to differentiate (times batch size), and its parts per image."""

    total: Tensor
    box: Tensor
    objectness: Tensor
    class_: Tensor

    def parts(self) -> Tensor:
        """(3,) box, objectness, class, without gradient."""
        return torch.stack((self.box, self.objectness, self.class_)).detach()


class DetectionLoss:
    """The criterion: raw predictions and a batch's labels to a loss.

    Args:
        coder: the network's anchors and strides.
        num_classes: C.
        image_size: the square training size in pixels.
        config: weights of the terms.
        ranks: the processes that share each batch. Means are taken over all of it, so that
            gradients averaged over processes are those of one process with the whole batch.
    """

    def __init__(
        self,
        coder: BoxCoder,
        num_classes: int,
        image_size: int,
        config: LossConfig,
        ranks: Ranks | None = None,
    ) -> None:
        levels = len(coder.strides)
        self.coder = coder
        self.num_classes = num_classes
        self.config = config
        self.box_gain = config.box * 3 / levels
        self.class_gain = config.cls * num_classes / 80 * 3 / levels
        self.objectness_gain = config.obj * (image_size / 640) ** 2 * 3 / levels
        self.balance = _BALANCE.get(levels, _BALANCE_ELSE)
        self.ranks = ranks or Ranks()

    def __call__(self, raw_predictions: Sequence[Tensor], batch: Batch) -> LossTerms:
        """The loss of one batch.

        Args:
            raw_predictions: per level (B, A * (5 + C), H, W) logits.
            batch: its boxes are xyxy in input pixels.
        """
        device = raw_predictions[0].device
        assignments = self.assign(raw_predictions, batch)
        box = torch.zeros((), device=device)
        objectness = torch.zeros((), device=device)
        class_ = torch.zeros((), device=device)
        num_images = raw_predictions[0].shape[0]
        counts = [num_images, *(len(assignment.class_ids) for assignment in assignments)]
        here = torch.tensor(counts, dtype=torch.float32, device=device)
        everywhere = self.ranks.average(here)
        # How much this process's means count: 1 where there is one process.
        of_images, *of_objects = here / everywhere.clamp(min=1 / self.ranks.count)
        levels = zip(raw_predictions, assignments, self.balance, of_objects, strict=False)
        for raw, assignment, weight, share in levels:
            maps = split_anchors(raw, len(self.coder.anchors[0]) // 2)
            level_box, iou, level_class = self._responsible_terms(maps, assignment)
            box = box + level_box * share
            class_ = class_ + level_class * share
            objectness = objectness + weight * self._objectness_term(maps, assignment, iou)
        box, objectness = box * self.box_gain, objectness * (self.objectness_gain * of_images)
        class_ = class_ * self.class_gain
        total = (box + objectness + class_) * (everywhere[0] * self.ranks.count)
        return LossTerms(total, box, objectness, class_)

    def assign(
        self, raw_predictions: Sequence[Tensor], batch: Batch
    ) -> tuple[LevelAssignment, ...]:
        """The responsible anchors for a batch's labels."""
        boxes = batch.boxes
        centres_sizes = torch.cat(
            ((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]), 1
        )
        return assign(
            batch.image_index,
            batch.class_ids,
            centres_sizes,
            anchors=[boxes.new_tensor(level).view(-1, 2) for level in self.coder.anchors],
            strides=self.coder.strides,
            grids_hw=[(raw.shape[2], raw.shape[3]) for raw in raw_predictions],
            ratio_threshold=self.config.anchor_t,
        )

    def _responsible_terms(
        self, maps: Tensor, assignment: LevelAssignment
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Box term, (K,) CIoU without gradient, and class term of the responsible anchors."""
        where = (
            assignment.image_index,
            assignment.anchor_index,
            assignment.row,
            assignment.column,
        )
        predicted = maps[where].float()  # (K, 5 + C)
        if not len(predicted):  # keeps the graph whole: the mean of nothing would be NaN
            nothing = predicted.sum()
            return nothing, nothing.detach(), nothing
        probability = predicted[:, :4].sigmoid()
        boxes = boxes_in_cell(probability, assignment.anchors)
        ciou = paired_ciou(boxes, assignment.boxes)
        return (1 - ciou).mean(), ciou.detach(), self._class_term(predicted[:, 5:], assignment)

    def _class_term(self, logits: Tensor, assignment: LevelAssignment) -> Tensor:
        """Cross-entropy of every class by itself; with one class there is nothing to tell apart."""
        if self.num_classes == 1:
            return logits.sum() * 0
        epsilon = self.config.label_smoothing
        targets = torch.full_like(logits, 0.5 * epsilon)
        targets[torch.arange(len(targets), device=logits.device), assignment.class_ids] = (
            1 - 0.5 * epsilon
        )
        return self._cross_entropy(logits, targets, self.config.cls_pw)

    def _objectness_term(self, maps: Tensor, assignment: LevelAssignment, iou: Tensor) -> Tensor:
        """Cross-entropy of objectness everywhere; its target is how well the box already fits."""
        logits = maps[..., 4].float()
        targets = torch.zeros_like(logits)
        # Two objects may claim one anchor; as in YOLOv5 the later one stays.
        targets[
            assignment.image_index, assignment.anchor_index, assignment.row, assignment.column
        ] = iou.clamp(min=0).to(targets.dtype)
        return self._cross_entropy(logits, targets, self.config.obj_pw)

    def _cross_entropy(self, logits: Tensor, targets: Tensor, positive_weight: float) -> Tensor:
        """Mean binary cross-entropy, focal where configured (Lin et al. 2017, eq. 5)."""
        weight = logits.new_tensor(positive_weight)
        gamma = self.config.fl_gamma
        if gamma == 0:
            return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight)
        loss = F.binary_cross_entropy_with_logits(
            logits, targets, pos_weight=weight, reduction="none"
        )
        probability = logits.sigmoid()
        right = targets * probability + (1 - targets) * (1 - probability)
        alpha = targets * 0.25 + (1 - targets) * 0.75
        return (loss * alpha * (1 - right) ** gamma).mean()
