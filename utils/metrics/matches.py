"""Which detections are right, as COCO defines it: equal to pycocotools, for all classes at once.

Per image and class, the detections choose in the order of their scores: each takes the free object
it overlaps most, at least by the IoU threshold. An object that does not count (a crowd region, or
one outside the range of areas) is taken only where none that counts is left, and a detection that
takes it does not count either. A crowd region can be taken again and again.

Shapes: P images, N detections, D detections of one class, M objects, A ranges of areas, T IoU
thresholds, G detections of different images and classes, K candidates of a detection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from utils.metrics.overlaps import (
    BoolArray,
    FloatArray64,
    ObjectColumns,
    Overlaps,
    find_overlaps,
)
from utils.structures import Detections, ImageRecord, IntArray

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
# COCO's ranges of areas in square pixels, ends included: all, small, medium, large.
AREA_RANGES = ((0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10))
ALL_AREAS, IOU_50 = 0, 0  # indices into the two
MAX_DETECTIONS = 100  # per image and class


@dataclass(frozen=True, slots=True)
class ClassMatches:
    """The detections of one class, all images together, best score first.

    Attributes:
        images: (D,) index of each detection's image.
        scores: (D,).
        ranks: (D,) position among the detections of its image, from 0.
        true_positive: (A, T, D) whether it matches an object that counts.
        counted: (A, T, D) whether it counts, right or wrong; False on crowds, for example.
        objects: (A, P) labelled objects that count.
    """

    images: IntArray
    scores: FloatArray64
    ranks: IntArray
    true_positive: BoolArray
    counted: BoolArray
    objects: IntArray


@dataclass(frozen=True, slots=True)
class ImageMatches:
    """A detector's matches on a set of images: what AP, curves and bootstrap are computed from.

    Attributes:
        image_ids: P numbers of the images, ascending.
        classes: in class-id order.
        confusion: (C + 1, C + 1), see `confusion_matrix`.
    """

    image_ids: tuple[int, ...]
    classes: tuple[ClassMatches, ...]
    confusion: IntArray


def match_images(
    records: Sequence[ImageRecord], detections: Mapping[int, Detections], num_classes: int
) -> ImageMatches:
    """Match detections with labels, at most 100 per image and class.

    Args:
        records: the images with their labels; crowd regions are ignored the COCO way.
        detections: per image id, boxes in original pixels.
        num_classes: of the labels.
    """
    overlaps = find_overlaps(records, detections, num_classes)
    return ImageMatches(
        image_ids=overlaps.image_ids,
        classes=_match_classes(overlaps, num_classes),
        confusion=confusion_matrix(overlaps, num_classes),
    )


def _match_classes(overlaps: Overlaps, num_classes: int) -> tuple[ClassMatches, ...]:
    found, true = overlaps.detections, overlaps.objects
    ranks = _ranks(overlaps)
    ignored = _outside_areas(true.areas) | true.crowd  # (A, M)
    candidates = _candidates(overlaps, ranks)
    parts = [_greedy_matches(candidates, true.crowd, each, len(ranks)) for each in ignored]
    true_positive, on_ignored = (np.stack(part) for part in zip(*parts, strict=True))
    unmatched = ~(true_positive | on_ignored)
    counted = ~(on_ignored | unmatched & _outside_areas(found.areas)[:, None])
    order = np.lexsort((found.images, -found.scores, found.class_ids))
    order = order[ranks[order] < MAX_DETECTIONS]
    bounds = np.searchsorted(found.class_ids[order], np.arange(num_classes + 1))
    return tuple(
        ClassMatches(
            images=found.images[rows],
            scores=found.scores[rows],
            ranks=ranks[rows],
            true_positive=true_positive[:, :, rows],
            counted=counted[:, :, rows],
            objects=_objects_that_count(true, ignored, class_id, len(overlaps.image_ids)),
        )
        for class_id in range(num_classes)
        for rows in [order[bounds[class_id] : bounds[class_id + 1]]]
    )


def _ranks(overlaps: Overlaps) -> IntArray:
    """(N,) position of each detection among those of its image and class, best score first."""
    found = overlaps.detections
    order = np.lexsort((-found.scores, found.class_ids, found.images))
    group = np.stack([found.images[order], found.class_ids[order]])
    is_first = np.ones(len(order), bool)
    is_first[1:] = (group[:, 1:] != group[:, :-1]).any(0)
    (starts,) = np.nonzero(is_first)
    ranks = np.zeros(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - starts[np.cumsum(is_first) - 1]
    return ranks


def _outside_areas(areas: FloatArray64) -> BoolArray:
    """(A, len(areas)) whether each area is outside each range."""
    low, high = np.array(AREA_RANGES).T[:, :, None]
    outside: BoolArray = (areas < low) | (areas > high)
    return outside


def _objects_that_count(
    true: ObjectColumns, ignored: BoolArray, class_id: int, num_images: int
) -> IntArray:
    """(A, P) how many objects of a class count in each image."""
    mine = true.class_ids == class_id
    return np.stack(
        [np.bincount(true.images[mine & ~each], minlength=num_images) for each in ignored]
    )


@dataclass(frozen=True, slots=True)
class _Candidates:
    """What the R detections that overlap anything of their class may choose from, best first.

    Attributes:
        detections: (R,) index of the detection.
        ranks: (R,) of the detection.
        objects: (R, K) index of the object.
        iou: (R, K) with it; -1 where a detection has fewer candidates.
    """

    detections: IntArray
    ranks: IntArray
    objects: IntArray
    iou: FloatArray64


def _candidates(overlaps: Overlaps, ranks: IntArray) -> _Candidates:
    found, true = overlaps.detections, overlaps.objects
    same_class = found.class_ids[overlaps.detection] == true.class_ids[overlaps.object]
    kept = same_class & (ranks[overlaps.detection] < MAX_DETECTIONS)
    detection, object_, iou = (
        column[kept] for column in (overlaps.detection, overlaps.object, overlaps.iou)
    )
    order = np.lexsort((-object_, -iou, detection))  # of equal overlaps pycocotools takes the last
    rows, first, row_of_pair, counts = np.unique(
        detection[order], return_index=True, return_inverse=True, return_counts=True
    )
    column_of_pair = np.arange(len(order)) - first[row_of_pair]
    shape = len(rows), int(counts.max(initial=0))
    objects, padded_iou = np.zeros(shape, np.int64), np.full(shape, -1.0)
    objects[row_of_pair, column_of_pair] = object_[order]
    padded_iou[row_of_pair, column_of_pair] = iou[order]
    return _Candidates(rows, ranks[rows], objects, padded_iou)


def _greedy_matches(
    candidates: _Candidates, crowd: BoolArray, ignored: BoolArray, num_detections: int
) -> tuple[BoolArray, BoolArray]:
    """Let all detections choose, those of the same rank at once.

    They want different objects, since they are of different images or classes.

    Args:
        candidates: to choose from.
        crowd: (M,) objects that can be taken again.
        ignored: (M,) objects that do not count.
        num_detections: N.

    Returns:
        (T, N) whether a detection takes an object that counts, and whether one that does not.
    """
    true_positive, on_ignored = np.zeros((2, len(IOU_THRESHOLDS), num_detections), bool)
    taken = np.zeros((len(IOU_THRESHOLDS), len(crowd)), bool)
    for rank in np.unique(candidates.ranks):
        (rows,) = np.nonzero(candidates.ranks == rank)
        objects = candidates.objects[rows]  # (G, K)
        reached = candidates.iou[rows] >= IOU_THRESHOLDS[:, None, None]  # (T, G, K)
        free = reached & (crowd[objects] | ~taken[:, objects])
        counts = free & ~ignored[objects]
        allowed = np.where(counts.any(-1, keepdims=True), counts, free)
        chosen = objects[np.arange(len(rows)), allowed.argmax(-1)]  # (T, G): the best allowed one
        has_match = allowed.any(-1)
        detections = candidates.detections[rows]
        true_positive[:, detections] = has_match & ~ignored[chosen]
        on_ignored[:, detections] = has_match & ignored[chosen]
        thresholds, _ = np.nonzero(has_match)
        taken[thresholds, chosen[has_match]] = True
    return true_positive, on_ignored


SCORE_THRESHOLD, IOU_THRESHOLD = 0.25, 0.45  # YOLOv5's


@dataclass(frozen=True, slots=True)
class ConfusionPairs:
    """What the confusion matrix counts, as indices into the columns of the overlaps.

    Attributes:
        detections: (S,) of those with a partner.
        objects: (S,) their partners.
        lone_detections: those of at least 0.25 where no object is.
        lone_objects: those that nothing found, crowd regions aside.
    """

    detections: IntArray
    objects: IntArray
    lone_detections: IntArray
    lone_objects: IntArray


def confusion_pairs(overlaps: Overlaps) -> ConfusionPairs:
    """Pair detections of at least 0.25 with objects by their overlap, classes mixed.

    Crowd regions are no objects here.
    """
    confident, counts = overlaps.detections.scores >= SCORE_THRESHOLD, ~overlaps.objects.crowd
    kept = confident[overlaps.detection] & counts[overlaps.object] & (overlaps.iou > IOU_THRESHOLD)
    pairs = overlaps.detection[kept], overlaps.object[kept]
    detected, objects = match_one_to_one(*pairs, overlaps.iou[kept])
    confident[detected], counts[objects] = False, False  # what is left has no partner
    return ConfusionPairs(detected, objects, np.flatnonzero(confident), np.flatnonzero(counts))


def confusion_matrix(overlaps: Overlaps, num_classes: int) -> IntArray:
    """Count the pairs of `confusion_pairs` by their classes, and what has no partner.

    Returns:
        (C + 1, C + 1) indexed [predicted, true]. The last row counts objects that nothing found,
        the last column detections where no object is.
    """
    pairs, matrix = (
        confusion_pairs(overlaps),
        np.zeros((num_classes + 1, num_classes + 1), np.int64),
    )
    predicted, true = overlaps.detections.class_ids, overlaps.objects.class_ids
    np.add.at(matrix, (predicted[pairs.detections], true[pairs.objects]), 1)
    matrix[:-1, -1] = np.bincount(predicted[pairs.lone_detections], minlength=num_classes)
    matrix[-1, :-1] = np.bincount(true[pairs.lone_objects], minlength=num_classes)
    return matrix


def match_one_to_one(
    rows: IntArray, columns: IntArray, iou: FloatArray64
) -> tuple[IntArray, IntArray]:
    """Pair rows with columns, highest overlap first, each used at most once.

    Among equal overlaps the first wins.

    Args:
        rows: (Q,) of the pairs that are possible.
        columns: (Q,) likewise.
        iou: (Q,) overlap of each pair.

    Returns:
        (S,) rows and (S,) columns of the pairs chosen.
    """
    order = np.argsort(-iou, kind="stable")
    pairs: list[tuple[int, int]] = []
    used_rows, used_columns = set[int](), set[int]()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            pairs.append((row, column))
    paired = np.array(pairs, np.int64).reshape(-1, 2)
    return paired[:, 0], paired[:, 1]
