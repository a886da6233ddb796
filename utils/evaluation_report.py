"""An evaluation as a console table and label files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.boxes import xyxy_to_cxcywh
from utils.engine.evaluate import Evaluation
from utils.image_names import image_stems
from utils.metrics.coco import ClassResult, CocoMetrics
from utils.output_files import write_text
from utils.structures import ImageRecord

logger = logging.getLogger(__name__)


def log_table(metrics: CocoMetrics, *, every_class: bool) -> None:
    """YOLOv5's table: a row for all classes and, with `every_class`, one per class with objects."""
    titles = ("Class", "Images", "Instances", "P", "R", "mAP50", "mAP50-95")
    logger.info("%22s %9s %9s %9s %9s %9s %9s", *titles)
    _log_row("all", metrics)
    if every_class and len(metrics.per_class) > 1:
        for result in metrics.per_class:
            if result.instances:
                _log_row(result.name, result)
    logger.info(
        "mAP75 %.3f, mAP small/medium/large %.3f / %.3f / %.3f, AR 1/10/100 %.3f / %.3f / %.3f",
        metrics.AP75, metrics.AP_small, metrics.AP_medium, metrics.AP_large,
        metrics.AR1, metrics.AR10, metrics.AR100,
    )  # fmt: skip


def _log_row(name: str, found: CocoMetrics | ClassResult) -> None:
    logger.info(
        "%22s %9d %9d %9.3f %9.3f %9.3f %9.3f",
        name[:22], found.images, found.instances, found.precision, found.recall,
        found.AP50, found.AP,
    )  # fmt: skip


def save_label_files(
    folder: Path, records: Sequence[ImageRecord], evaluation: Evaluation, *, scores: bool
) -> None:
    """One YOLO label file per image: class, centre and size as fractions, score if asked.

    Images of one name (in several folders) get `name.txt`, `name_2.txt`, ... in their order.
    """
    stems = image_stems(records)
    for record in records:
        found = evaluation.detections[record.image_id]
        height, width = record.image_hw
        boxes = xyxy_to_cxcywh(found.boxes) / np.array([width, height] * 2, np.float32)
        lines = []
        for class_id, box, score in zip(found.class_ids, boxes, found.scores, strict=True):
            numbers = [*box, score] if scores else [*box]
            lines.append(" ".join([str(class_id), *(f"{number:g}" for number in numbers)]) + "\n")
        write_text(folder / f"{stems[record.image_id]}.txt", "".join(lines))
