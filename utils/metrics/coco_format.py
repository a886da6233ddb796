"""Labels and detections in COCO's formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from utils.boxes import xyxy_to_xywh
from utils.structures import Detections, ImageRecord


def coco_results(
    records: Sequence[ImageRecord],
    detections: Mapping[int, Detections],
    category_ids: Sequence[int],
) -> list[dict[str, Any]]:
    """Detections in COCO's results form, boxes as corner and size in original pixels.

    Args:
        records: the images.
        detections: per image id, in original pixels.
        category_ids: the COCO category of each class id.
    """
    results: list[dict[str, Any]] = []
    for record in records:
        found = detections.get(record.image_id, Detections.empty())
        boxes = xyxy_to_xywh(found.boxes).astype(np.float64).round(3).tolist()
        rows = zip(boxes, found.scores.tolist(), found.class_ids.tolist(), strict=True)
        results.extend(
            {
                "image_id": record.image_id,
                "category_id": category_ids[class_id],
                "bbox": box,
                "score": round(score, 5),
            }
            for box, score, class_id in rows
        )
    return results


def ground_truth(records: Sequence[ImageRecord], class_names: Sequence[str]) -> dict[str, Any]:
    """The labels as the json COCO would ship, with class ids as categories."""
    annotations: list[dict[str, Any]] = []
    for record in records:
        crowd_areas = (record.crowd.boxes[:, 2:] - record.crowd.boxes[:, :2]).prod(1)
        for targets, areas, crowd in (
            (record.targets, record.areas, 0),
            (record.crowd, crowd_areas, 1),
        ):
            boxes = xyxy_to_xywh(targets.boxes.astype(np.float64))
            for box, class_id, area in zip(boxes, targets.class_ids, areas, strict=True):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": record.image_id,
                        "category_id": int(class_id),
                        "bbox": box.tolist(),
                        "area": float(area),
                        "iscrowd": crowd,
                    }
                )
    images = [
        {"id": record.image_id, "height": record.image_hw[0], "width": record.image_hw[1]}
        for record in records
    ]
    categories = [{"id": index, "name": name} for index, name in enumerate(class_names)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def result_rows(
    records: Sequence[ImageRecord], detections: Mapping[int, Detections]
) -> npt.NDArray[np.float64]:
    """(D, 7) rows of image id, x, y, w, h, score, class id, as pycocotools loads them."""
    parts = [np.zeros((0, 7))]
    for record in records:
        found = detections.get(record.image_id, Detections.empty())
        columns = (
            np.full((len(found), 1), record.image_id, np.float64),
            xyxy_to_xywh(found.boxes.astype(np.float64)),
            found.scores.astype(np.float64)[:, None],
            found.class_ids.astype(np.float64)[:, None],
        )
        parts.append(np.concatenate(columns, 1))
    return np.concatenate(parts)
