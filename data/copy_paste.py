"""Copy-paste augmentation: objects cut out along their outlines and pasted once more, mirrored."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from utils.boxes import box_area
from utils.structures import FloatArray, ImageArray, Outline, Targets

MAX_HIDDEN = 0.3  # share of another object's box that a pasted one may cover
_MIN_SIDE = 2.0  # pixels: a mosaic may have cut the object off entirely


def copy_paste(
    image: ImageArray,
    targets: Targets,
    outlines: Sequence[Outline],
    probability: float,
    rng: np.random.Generator,
) -> tuple[ImageArray, Targets]:
    """Paste objects once more at the mirrored position (Ghiasi et al. 2021, mirrored as in YOLOv5).

    Args:
        image: (H, W, 3) uint8.
        targets: its N objects.
        outlines: N of them; objects without polygons are never pasted.
        probability: of each object.
        rng: draws the objects.

    Returns:
        A new image, and the targets with the pasted ones at the end.
    """
    height, width = image.shape[:2]
    chosen = rng.random(len(targets)) < probability
    mask = np.zeros((height, width), np.uint8)
    boxes, class_ids = list(targets.boxes), list(targets.class_ids)
    for index in np.flatnonzero(chosen).tolist():
        x1, y1, x2, y2 = targets.boxes[index]
        if not outlines[index] or min(x2 - x1, y2 - y1) < _MIN_SIDE:
            continue
        mirrored = np.array([width - x2, y1, width - x1, y2], np.float32)
        if (_hidden_shares(np.array(boxes), mirrored) >= MAX_HIDDEN).any():
            continue
        boxes.append(mirrored)
        class_ids.append(targets.class_ids[index])
        for polygon in outlines[index]:
            cv2.fillPoly(mask, [np.floor(polygon).astype(np.int32)], 1)
    if len(boxes) == len(targets):
        return image, targets
    pasted = np.where(cv2.flip(mask, 1)[..., None] > 0, cv2.flip(image, 1), image)
    return np.asarray(pasted, np.uint8), Targets(np.stack(boxes), np.array(class_ids, np.int64))


def _hidden_shares(boxes: FloatArray, over: FloatArray) -> FloatArray:
    """(N,) the share of each of (N, 4) boxes that one box (4,) covers."""
    corners = np.minimum(boxes[:, 2:], over[2:]) - np.maximum(boxes[:, :2], over[:2])
    hidden = corners.clip(min=0).prod(axis=1)
    return np.asarray(hidden / np.maximum(box_area(boxes), 1e-9), np.float32)
