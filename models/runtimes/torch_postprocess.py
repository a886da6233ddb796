"""Decoded predictions to detections in torch, on their device, by the rules of utils.postprocess.

Shapes: B images, N boxes, C classes, P pairs of box and class.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms

from utils.postprocess import CLASS_OFFSET, MAX_CANDIDATES, PostprocessConfig
from utils.structures import Detections


def postprocess_batch(decoded: Tensor, config: PostprocessConfig) -> list[Detections]:
    """The detections of each image.

    Args:
        decoded: (B, N, 5 + C): cx, cy, w, h in input pixels, objectness, class probabilities.
        config: thresholds and rules, as in utils.postprocess.

    Returns:
        Per image, boxes in pixels of the network input, best score first.
    """
    return [_postprocess_one(image, config) for image in decoded]


def _postprocess_one(decoded: Tensor, config: PostprocessConfig) -> Detections:
    decoded = decoded.float()
    candidates = decoded[decoded[:, 4] > config.score_threshold]
    scores = candidates[:, 5:] * candidates[:, 4:5]
    rows, class_ids = _choose_classes(scores, config)
    chosen = scores[rows, class_ids]
    order = chosen.argsort(descending=True, stable=True)[:MAX_CANDIDATES]
    rows, class_ids, chosen = rows[order], class_ids[order], chosen[order]
    half = candidates[rows, 2:4] / 2
    centres = candidates[rows, :2]
    boxes = torch.cat((centres - half, centres + half), 1)
    # Boxes of different classes are moved apart instead of calling torchvision's batched_nms: the
    # rounding of the moved boxes then decides borderline overlaps as it does in YOLOv5.
    apart = 0.0 if config.class_agnostic else CLASS_OFFSET
    iou_threshold = float(np.float32(config.iou_threshold))  # nms would compare in float64
    keep = nms(boxes + (class_ids * apart)[:, None], chosen, iou_threshold)
    keep = keep[: config.max_detections]
    return Detections(
        boxes=boxes[keep].cpu().numpy(),
        scores=chosen[keep].cpu().numpy(),
        class_ids=class_ids[keep].cpu().numpy(),
    )


def suppressed(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """(K,) indices of the (N, 4) cxcywh boxes that NMS keeps, best score first."""
    half = boxes[:, 2:] / 2
    corners = torch.cat((boxes[:, :2] - half, boxes[:, :2] + half), 1)
    kept: Tensor = nms(corners, scores, iou_threshold)
    return kept


def _choose_classes(scores: Tensor, config: PostprocessConfig) -> tuple[Tensor, Tensor]:
    """(P,) rows and (P,) class ids of every pair that counts."""
    if config.multi_label:
        rows, class_ids = (scores > config.score_threshold).nonzero(as_tuple=True)
    else:
        best, class_ids = scores.max(1)
        rows = (best > config.score_threshold).nonzero(as_tuple=True)[0]
        class_ids = class_ids[rows]
    if config.classes is not None:
        wanted = torch.isin(class_ids, class_ids.new_tensor(config.classes))
        rows, class_ids = rows[wanted], class_ids[wanted]
    return rows, class_ids
