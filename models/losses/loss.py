"""The training loss: YOLOv5's box (CIoU), objectness and class terms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.losses.assign import Assignment, assign
from models.losses.cross_entropy import CrossEntropy
from models.losses.read_maps import read_maps
from models.network.anchors import ANCHOR_THRESHOLD
from models.network.box_coder import BoxCoder, boxes_in_cell
from utils.batches import Batch
from utils.engine.distributed import Ranks
from utils.strict_mapping import check_limits

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
        anchor_t: largest factor between object and anchor side.
        fl_gamma: focal exponent; 0 is plain cross-entropy.
    """

    box: float = 0.05
    cls: float = 0.5
    cls_pw: float = 1.0
    obj: float = 1.0
    obj_pw: float = 1.0
    anchor_t: float = ANCHOR_THRESHOLD
    fl_gamma: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what makes no loss.

        Raises:
            ValueError: naming the number and its limits.
        """
        names = ("box", "cls", "cls_pw", "obj", "obj_pw", "fl_gamma")
        check_limits(self, anchor_t=(1.0, math.inf), **dict.fromkeys(names, (0.0, math.inf)))


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
        num_anchors, num_images = len(self.coder.anchors[0]) // 2, len(raw_predictions[0])
        assignment = self.assign(raw_predictions, batch).to(raw_predictions[0].device)
        predicted, all_objectness = read_maps(raw_predictions, assignment, num_anchors)
        of_images, of_pairs, global_images = self._weights(num_images, assignment.pairs, predicted)
        # What each pair counts: its level's weight, divided by the pairs that the mean is over.
        parts = [(weight / max(count, 1)).expand(count)
                 for weight, count in zip(of_pairs, assignment.pairs, strict=True)]  # fmt: skip
        each = torch.cat(parts)

        in_box, of_object, in_class = torch.split(predicted, [4, 1, self.num_classes], 1)
        ciou = paired_ciou(boxes_in_cell(in_box.sigmoid(), assignment.anchors), assignment.boxes)
        box = ((1 - ciou) * each).sum() * self.box_gain
        class_ = self._class_term(in_class, assignment.class_ids, each) * self.class_gain
        cells = [num_images * num_anchors * raw.shape[2] * raw.shape[3] for raw in raw_predictions]
        targets = ciou.detach().clamp(min=0)
        objectness = self._objectness_term(
            all_objectness, cells, of_object.squeeze(1), targets, assignment
        ) * (self.objectness_gain * of_images)
        total = (box + objectness + class_) * global_images
        return LossTerms(total, box, objectness, class_)

    def _weights(
        self, num_images: int, pairs: Sequence[int], like: Tensor
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
            like: has the device and dtype of the result. The numbers are filled in there: nothing
                waits for a copy.

        Returns:
            () weight of objectness, (levels,) weights w_p, () B.
        """
        count = self.ranks.count
        numbers = (num_images, *pairs)
        local = torch.stack([like.new_full((), float(n)) for n in numbers])
        mean = self.ranks.average(local)
        weights = local / mean.clamp(min=1 / count)
        return weights[0], weights[1:], mean[0] * count

    def assign(self, raw_predictions: Sequence[Tensor], batch: Batch) -> Assignment:
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

    def _class_term(self, logits: Tensor, class_ids: Tensor, weights: Tensor) -> Tensor:
        """Cross-entropy of every class by itself; with one class there is nothing to tell apart.

        Args:
            logits: (K, C).
            class_ids: (K,).
            weights: (K,) how much each row counts.
        """
        if self.num_classes == 1:
            return logits.sum() * 0
        cross_entropy = CrossEntropy(self.config.cls_pw, self.config.fl_gamma)
        losses = cross_entropy.of_classes(logits, class_ids, self.label_smoothing)
        return (losses.sum(1) * weights).sum() / self.num_classes

    def _objectness_term(
        self,
        logits: Tensor,
        cells: Sequence[int],
        predicted: Tensor,
        targets: Tensor,
        assignment: Assignment,
    ) -> Tensor:
        """Cross-entropy of every anchor's objectness; the target is how well the box already fits.

        It is computed as if all targets were 0, and corrected for the few that are not. Two objects
        may claim one anchor; as in YOLOv5 the later one stays.

        Args:
            logits: (N,) of all anchors, level by level.
            cells: how many of them each level has.
            predicted: (K,) those of the responsible anchors.
            targets: (K,) theirs.
            assignment: says which of these are the last.
        """
        cross_entropy = CrossEntropy(self.config.obj_pw, self.config.fl_gamma)
        added = cross_entropy.of_targets(predicted, targets) - cross_entropy.of_nothing(predicted)
        levels = zip(
            torch.split(cross_entropy.of_nothing(logits), list(cells)),
            torch.split(added * assignment.is_last, list(assignment.pairs)),
            self.balance,
            strict=False,
        )
        means = [(nothing.sum() + more.sum()) * (balance / max(len(nothing), 1))
                 for nothing, more, balance in levels]  # fmt: skip
        return torch.stack(means).sum()


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
    centre, size = torch.split(boxes, 2, 1)
    other_centre, other_size = torch.split(others, 2, 1)
    (width, height), (other_width, other_height) = size.unbind(1), other_size.unbind(1)
    half, other_half = size / 2, other_size / 2
    start, end = centre - half, centre + half
    other_start, other_end = other_centre - other_half, other_centre + other_half

    overlap = (torch.minimum(end, other_end) - torch.maximum(start, other_start)).clamp(min=0)
    # Not prod(1), whose gradient reads on the host whether there are zeros.
    across, down = overlap.unbind(1)
    intersection = across * down
    iou = intersection / (width * height + other_width * other_height - intersection + _EPS)

    hull = torch.maximum(end, other_end) - torch.minimum(start, other_start)
    distance = (other_centre - centre).square().sum(1) / (hull.square().sum(1) + _EPS)

    angle = torch.atan(width / (height + _EPS))
    other_angle = torch.atan(other_width / (other_height + _EPS))
    aspect = (4 / math.pi**2) * (other_angle - angle).square()
    with torch.no_grad():
        weight = aspect / (1 - iou + aspect + _EPS)
    return iou - distance - weight * aspect
