"""The training loss: YOLOv5's box (CIoU), objectness and class terms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.losses.assign import LevelAssignment, assign
from models.network.anchors import ANCHOR_THRESHOLD
from models.network.box_coder import BoxCoder, boxes_in_cell, split_anchors
from utils.batches import Batch
from utils.engine.distributed import Ranks

# Weight of each level's objectness: fine levels have many cells and few objects.
_BALANCE = {3: (4.0, 1.0, 0.4)}
_BALANCE_ELSE = (4.0, 1.0, 0.25, 0.06, 0.02)


@dataclass(frozen=True, slots=True)
class LossConfig:
    """The hyper-parameters of the loss, named as in YOLOv5's yamls.

    The effective gains follow YOLOv5: box * 3 / levels, cls * C / 80 * 3 / levels,
    obj * (image size / 640)^2 * 3 / levels.

    Attributes:
        box: gain of the box term.
        cls: gain of the class term.
        cls_pw: weight of positive class targets.
        obj: gain of the objectness term.
        obj_pw: weight of positive objectness targets.
        iou_t: accepted because YOLOv5's yamls have it; nothing uses it, nor does YOLOv5.
        anchor_t: largest factor between object and anchor side.
        fl_gamma: focal exponent; 0 is plain cross-entropy.
    """

    box: float = 0.05
    cls: float = 0.5
    cls_pw: float = 1.0
    obj: float = 1.0
    obj_pw: float = 1.0
    iou_t: float = 0.2
    anchor_t: float = ANCHOR_THRESHOLD
    fl_gamma: float = 0.0


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
        label_smoothing: epsilon of smoothed class targets.
        ranks: the processes that share each batch. Means are taken over all of it, so that
            gradients averaged over processes are those of one process with the whole batch.

    With labels on the host, which assigns them, nothing makes the host wait for a GPU.
    """

    def __init__(
        self,
        coder: BoxCoder,
        num_classes: int,
        image_size: int,
        config: LossConfig,
        *,
        label_smoothing: float = 0.0,
        ranks: Ranks | None = None,
    ) -> None:
        levels = len(coder.strides)
        self.coder = coder
        self.num_classes = num_classes
        self.config = config
        self.label_smoothing = label_smoothing
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
        pairs = [len(assignment.class_ids) for assignment in assignments]
        of_images, of_pairs, global_images = self._weights(num_images, pairs, device)
        levels = zip(raw_predictions, assignments, self.balance, of_pairs, strict=False)
        for raw, on_host, balance, weight in levels:
            assignment = on_host.to(device)
            maps = split_anchors(raw, len(self.coder.anchors[0]) // 2)
            level_box, iou, level_class = self._responsible_terms(maps, assignment)
            box = box + level_box * weight
            class_ = class_ + level_class * weight
            objectness = objectness + balance * self._objectness_term(maps, assignment, iou)
        box, objectness = box * self.box_gain, objectness * (self.objectness_gain * of_images)
        class_ = class_ * self.class_gain
        total = (box + objectness + class_) * global_images
        return LossTerms(total, box, objectness, class_)

    def _weights(
        self, num_images: int, pairs: Sequence[int], device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor]:
        """How much this process's means count in the loss of the batch that all processes share.

        Process p of P has B_p images and, on a level, K_p pairs whose losses sum to S_p; its mean
        is m_p = S_p / K_p. With the whole batch in one process, B images and K pairs, the loss is
        B * (sum of S_p) / K. Data parallelism averages gradients, so that process p has to use an
        L_p with (1 / P) * (sum of L_p) = B * (sum of S_p) / K, which is

            L_p = B * w_p * m_p,  with w_p = P * K_p / K = K_p / (mean of K over processes).

        The mean of K is 0 where no process has a pair, and 1 / P or more everywhere else: clamping
        it at 1 / P changes only 0 / 0 to 0. Objectness is a mean over cells, of which every image
        has as many: there the weight is B_p / (mean of B). With one process all weights are 1, or
        0 for a level without pairs.

        Args:
            num_images: B_p.
            pairs: K_p of each level.
            device: of the result. The numbers are filled in there: nothing waits for a copy.

        Returns:
            () weight of objectness, (levels,) weights w_p, () B.
        """
        count = self.ranks.count
        numbers = (num_images, *pairs)
        local = torch.stack([torch.full((), float(n), device=device) for n in numbers])
        mean = self.ranks.average(local)
        weights = local / mean.clamp(min=1 / count)
        return weights[0], weights[1:], mean[0] * count

    def assign(
        self, raw_predictions: Sequence[Tensor], batch: Batch
    ) -> tuple[LevelAssignment, ...]:
        """The responsible anchors for a batch's labels, on the device of these."""
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
        epsilon = self.label_smoothing
        targets = torch.full_like(logits, 0.5 * epsilon)
        rows = torch.arange(len(targets), device=logits.device)
        targets[rows, assignment.class_ids] = targets.new_full((), 1 - 0.5 * epsilon)
        return self._cross_entropy(logits, targets, self.config.cls_pw)

    def _objectness_term(self, maps: Tensor, assignment: LevelAssignment, iou: Tensor) -> Tensor:
        """Cross-entropy of every cell's objectness; the target is how well the box already fits."""
        logits = maps[..., 4].float()
        targets = torch.zeros_like(logits)
        # Two objects may claim one anchor; as in YOLOv5 the later one stays.
        targets[
            assignment.image_index, assignment.anchor_index, assignment.row, assignment.column
        ] = iou.clamp(min=0).to(targets.dtype)
        return self._cross_entropy(logits, targets, self.config.obj_pw)

    def _cross_entropy(self, logits: Tensor, targets: Tensor, positive_weight: float) -> Tensor:
        """Mean binary cross-entropy, focal where configured (Lin et al. 2017, eq. 5)."""
        weight = logits.new_full((), positive_weight)
        gamma = self.config.fl_gamma
        if gamma == 0:
            return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight)
        loss = F.binary_cross_entropy_with_logits(
            logits, targets, pos_weight=weight, reduction="none"
        )
        probability = logits.sigmoid()
        of_target = targets * probability + (1 - targets) * (1 - probability)
        alpha = targets * 0.25 + (1 - targets) * 0.75
        return (loss * alpha * (1 - of_target) ** gamma).mean()


_EPS = 1e-7


def paired_ciou(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU - distance / diagonal - aspect penalty, of each pair of boxes (eq. 7, 10 and 11).

    Takes centre and size rather than corners, as torchvision's `complete_box_iou_loss` does: a thin
    box far from the origin has a height of exactly 0 after rounding its corners, and then that
    function's gradient is NaN.

    Args:
        boxes: (K, 4) cxcywh, sizes at least 0.
        others: (K, 4) cxcywh.

    Returns:
        (K,) between -1.5 and 1.
    """
    centre, size = boxes[:, :2], boxes[:, 2:]
    other_centre, other_size = others[:, :2], others[:, 2:]
    start, end = centre - size / 2, centre + size / 2
    other_start, other_end = other_centre - other_size / 2, other_centre + other_size / 2

    overlap = (torch.minimum(end, other_end) - torch.maximum(start, other_start)).clamp(min=0)
    intersection = overlap.prod(1)
    iou = intersection / (size.prod(1) + other_size.prod(1) - intersection + _EPS)

    hull = torch.maximum(end, other_end) - torch.minimum(start, other_start)
    distance = (other_centre - centre).square().sum(1) / (hull.square().sum(1) + _EPS)

    angle = torch.atan(size[:, 0] / (size[:, 1] + _EPS))
    other_angle = torch.atan(other_size[:, 0] / (other_size[:, 1] + _EPS))
    aspect = (4 / math.pi**2) * (other_angle - angle).square()
    with torch.no_grad():
        weight = aspect / (1 - iou + aspect + _EPS)
    return iou - distance - weight * aspect
