"""Detections and labels of a whole evaluation as columns, and which of them overlap.

Shapes: P images, N detections, M labelled objects, Q overlapping pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from utils.boxes import box_area
from utils.structures import Detections, FloatArray, ImageRecord, IntArray, Targets

FloatArray64 = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
ScalarT = TypeVar("ScalarT", bound=np.generic)

MIN_IOU = 0.45  # pairs that overlap less or equally count in no metric


@dataclass(frozen=True, slots=True)
class DetectionColumns:
    """All detections, image after image, each image's in the order given.

    Attributes:
        images: (N,) index of the image.
        class_ids: (N,).
        scores: (N,).
        areas: (N,) of the boxes, square pixels.
    """

    images: IntArray
    class_ids: IntArray
    scores: FloatArray64
    areas: FloatArray64


@dataclass(frozen=True, slots=True)
class ObjectColumns:
    """All labelled objects, image after image, each image's crowd regions last.

    Attributes:
        images: (M,) index of the image.
        class_ids: (M,).
        areas: (M,) by which COCO sorts objects, square pixels.
        crowd: (M,) whether it is a crowd region.
    """

    images: IntArray
    class_ids: IntArray
    areas: FloatArray64
    crowd: BoolArray


@dataclass(frozen=True, slots=True)
class Overlaps:
    """What was detected, what is there, and the pairs that overlap, whatever their classes.

    Attributes:
        image_ids: P numbers of the images, ascending.
        detections: what was found.
        objects: what is labelled.
        detection: (Q,) index into `detections`, ascending.
        object: (Q,) index into `objects`.
        iou: (Q,) above `MIN_IOU`; with a crowd region the share of the detection inside it.
    """

    image_ids: tuple[int, ...]
    detections: DetectionColumns
    objects: ObjectColumns
    detection: IntArray
    object: IntArray
    iou: FloatArray64


def find_overlaps(
    records: Sequence[ImageRecord], detections: Mapping[int, Detections], num_classes: int
) -> Overlaps:
    """Compare all detections with all labels of their images, in float64.

    Args:
        records: the images with their labels.
        detections: per image id, boxes in original pixels.
        num_classes: detections of other classes are dropped, as pycocotools does.
    """
    records = sorted(records, key=lambda record: record.image_id)
    found = [_known(detections.get(record.image_id), num_classes) for record in records]
    labelled = [Targets.concatenate([record.targets, record.crowd]) for record in records]
    pairs = [
        _pairs_of_image(one.boxes, true.boxes, len(record.targets))
        for one, true, record in zip(found, labelled, records, strict=True)
    ]
    detection_counts, object_counts = [[len(one) for one in each] for each in (found, labelled)]
    pair_images = _image_column([len(iou) for _, _, iou in pairs])
    return Overlaps(
        image_ids=tuple(record.image_id for record in records),
        detections=DetectionColumns(
            images=_image_column(detection_counts),
            class_ids=_column([one.class_ids for one in found], np.int64),
            scores=_column([one.scores for one in found], np.float64),
            areas=_column([box_area(one.boxes.astype(np.float64)) for one in found], np.float64),
        ),
        objects=ObjectColumns(
            images=_image_column(object_counts),
            class_ids=_column([one.class_ids for one in labelled], np.int64),
            areas=_column([_areas(record) for record in records], np.float64),
            crowd=_column(
                [
                    np.arange(len(one)) >= len(r.targets)
                    for one, r in zip(labelled, records, strict=True)
                ],
                np.bool_,
            ),
        ),
        detection=_column([rows for rows, _, _ in pairs], np.int64)
        + _starts(detection_counts)[pair_images],
        object=_column([columns for _, columns, _ in pairs], np.int64)
        + _starts(object_counts)[pair_images],
        iou=_column([iou for _, _, iou in pairs], np.float64),
    )


def _known(found: Detections | None, num_classes: int) -> Detections:
    if found is None:
        return Detections.empty()
    return found[found.class_ids < num_classes]


def _pairs_of_image(
    found: FloatArray, labelled: FloatArray, num_targets: int
) -> tuple[IntArray, IntArray, FloatArray64]:
    """(Q,) rows of `found`, rows of `labelled` and IoU, of one image; crowds follow the targets."""
    boxes, others = found.astype(np.float64), labelled.astype(np.float64)
    left_top = np.maximum(boxes[:, None, :2], others[None, :, :2])
    right_bottom = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    overlap = np.clip(right_bottom - left_top, 0, None).prod(axis=2)
    area = box_area(boxes)[:, None]
    union = area + box_area(others)[None, :] - overlap
    union[:, num_targets:] = area  # COCO's measure for crowds: the share of the detection inside
    iou = overlap / np.maximum(union, np.finfo(np.float64).tiny)
    rows, columns = np.nonzero(iou > MIN_IOU)
    return rows, columns, iou[rows, columns]


def _areas(record: ImageRecord) -> FloatArray64:
    return np.concatenate([record.areas, box_area(record.crowd.boxes)]).astype(np.float64)


def _image_column(counts: Sequence[int]) -> IntArray:
    """(sum of counts,) the index of each row's image."""
    return np.repeat(np.arange(len(counts)), counts)


def _starts(counts: Sequence[int]) -> IntArray:
    """(P,) index of each image's first row."""
    return np.cumsum([0, *counts])[:-1]


def _column(parts: Sequence[npt.NDArray[Any]], dtype: type[ScalarT]) -> npt.NDArray[ScalarT]:
    return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype, copy=False)
