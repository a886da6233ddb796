"""Detections as COCO's results json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from utils.boxes import xyxy_to_xywh
from utils.structures import Detections, ImageRecord


def coco_results(
    records: Sequence[ImageRecord],
    detections: Mapping[int, Detections],
    category_ids: Sequence[int],
    image_ids: Mapping[int, int | str] | None = None,
) -> list[dict[str, Any]]:
    """Detections in COCO's results form, boxes as corner and size in original pixels.

    Args:
        records: the images.
        detections: per image id, in original pixels.
        category_ids: the COCO category of each class id.
        image_ids: what images are called, by their numbers; None for these, of a COCO json.
    """
    results: list[dict[str, Any]] = []
    for record in records:
        number = record.image_id
        found = detections.get(number, Detections.empty())
        boxes = xyxy_to_xywh(found.boxes).astype(np.float64).round(3).tolist()
        rows = zip(boxes, found.scores.tolist(), found.class_ids.tolist(), strict=True)
        results.extend(
            {
                "image_id": number if image_ids is None else image_ids[number],
                "category_id": category_ids[class_id],
                "bbox": box,
                "score": round(score, 5),
            }
            for box, score, class_id in rows
        )
    return results
