"""Complete IoU of paired boxes, differentiable (Zheng et al., "Distance-IoU Loss", AAAI 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

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
