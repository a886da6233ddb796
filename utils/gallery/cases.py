"""What the confusion matrix counts, one by one, and why each detection or object is an error.

Detections score at least 0.25, as those of the matrix do. Lower ones only say why an object is
missed. Shapes: N detections and M objects of one image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from utils.boxes import pairwise_iou
from utils.metrics.matches import (
    IOU_50,
    IOU_THRESHOLD,
    IOU_THRESHOLDS,
    SCORE_THRESHOLD,
    ConfusionPairs,
    confusion_pairs,
)
from utils.metrics.overlaps import Overlaps, find_overlaps
from utils.structures import Detections, FloatArray, ImageRecord, IntArray, Targets

MIN_NEAR_IOU = 0.1  # a box that overlaps less is no attempt at the object
MIN_CROWD_SHARE = IOU_THRESHOLDS[IOU_50]  # COCO's, for a detection in a crowd region


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of case.

    Attributes:
        name: in the page's data.
        section: which of them can be shown together: "false", "missed", "confused", "ignored" or
            "correct".
        title: above its crops.
        definition: a sentence.
    """

    name: str
    section: str
    title: str
    definition: str


KINDS = (
    Kind(
        "background", "false", "False positives on background",
        "Detections without a partner whose IoU is below "
        f"{MIN_NEAR_IOU:g} with every object of their class and at most {IOU_THRESHOLD:g} with "
        "every other one.",
    ),
    Kind(
        "poor_location", "false", "False positives, poorly located",
        "Detections without a partner that overlap an object of their class with an IoU from "
        f"{MIN_NEAR_IOU:g} to {IOU_THRESHOLD:g}, and no other object more.",
    ),
    Kind(
        "duplicate", "false", "False positives, duplicates",
        f"Detections without a partner whose IoU with an object of any class is above "
        f"{IOU_THRESHOLD:g}. The object's partner is another detection, which overlaps it more.",
    ),
    Kind(
        "missed", "missed", "Missed objects",
        "Objects without a partner that belong to neither of the next two kinds.",
    ),
    Kind(
        "low_score", "missed", "Missed objects, score too low",
        f"Objects without a partner. A detection of their class has an IoU above {IOU_THRESHOLD:g} "
        f"with them, but its score is below {SCORE_THRESHOLD:g}.",
    ),
    Kind(
        "poor_box", "missed", "Missed objects, poorly located",
        "Objects without a partner. The best detection of their class that scores enough has an "
        f"IoU from {MIN_NEAR_IOU:g} to {IOU_THRESHOLD:g} with them.",
    ),
    Kind(
        "confusion", "confused", "Confusions",
        "Detections and their partners, whose classes differ.",
    ),
    Kind(
        "ignored", "ignored", "False positives in ignored regions",
        "Detections without a partner of which at least half lies in a crowd region or difficult "
        "box of their class. The matrix counts them as background; AP does not count them.",
    ),
    Kind(
        "correct", "correct", "Correct detections",
        "Detections and their partners of the same class.",
    ),
)  # fmt: skip
KIND_NAMES = tuple(kind.name for kind in KINDS)
MISSES = tuple(kind.name for kind in KINDS if kind.section == "missed")


@dataclass(frozen=True, slots=True)
class Case:
    """One count of the confusion matrix.

    Attributes:
        kind: name of a kind.
        row: predicted class; the number of classes where nothing was found.
        column: true class; the number of classes where no object is.
        image: index of the image among the records.
        found: (4,) box of the detection in original pixels; None without any.
        score: of that detection, else 0.
        labelled: (4,) box of the object; None without any.
        other_class: of the labelled box of a detection without a partner; None without any.
        iou: of the two boxes, else 0; with an ignored region the share of the detection inside.
    """

    kind: str
    row: int
    column: int
    image: int
    found: FloatArray | None = None
    score: float = 0.0
    labelled: FloatArray | None = None
    other_class: int | None = None
    iou: float = 0.0

    @property
    def size_wh(self) -> tuple[float, float]:
        """Width and height in original pixels, of the object where there is one."""
        in_cell = self.labelled if self.other_class is None else None
        box = in_cell if in_cell is not None else self.found
        if box is None:
            return 0.0, 0.0
        return float(box[2] - box[0]), float(box[3] - box[1])

    @property
    def class_id(self) -> int:
        """The class whose detection or miss it is."""
        return self.column if self.kind in MISSES else self.row

    def rank(self) -> tuple[float, float]:
        """The worst first: the surest false detections, the largest misses, the weakest hits."""
        width, height = self.size_wh
        if self.kind == "correct":
            return self.score, self.iou
        if self.kind in MISSES:
            return -width * height, self.score
        return -self.score, -width * height


def find_cases(
    records: Sequence[ImageRecord], detections: Mapping[int, Detections], num_classes: int
) -> Iterator[Case]:
    """Every count of the confusion matrix of these images, image after image.

    Args:
        records: the images with their labels.
        detections: per image id, boxes in original pixels.
        num_classes: of the labels; detections of other classes are dropped.
    """
    for index, record in enumerate(records):
        found = detections.get(record.image_id, Detections.empty())
        found = found[found.class_ids < num_classes]
        # Images have no influence on each other, so the pairs are those of the matrix of them all.
        overlaps = find_overlaps([record], {record.image_id: found}, num_classes)
        yield from _Image(index, record, found, overlaps, num_classes).cases()


class _Image:
    """The cases of one image."""

    def __init__(
        self,
        index: int,
        record: ImageRecord,
        found: Detections,
        overlaps: Overlaps,
        num_classes: int,
    ) -> None:
        self.index = index
        self.found = found
        self.objects = Targets.concatenate([record.targets, record.crowd])
        self.num_targets = len(record.targets)
        self.overlaps = overlaps
        self.background = num_classes
        targets = self.objects.boxes[: self.num_targets]
        self.iou = pairwise_iou(found.boxes, targets)  # (N, M), small ones too

    def cases(self) -> Iterator[Case]:
        pairs = confusion_pairs(self.overlaps)
        yield from self._paired(pairs)
        for detection in pairs.lone_detections.tolist():
            yield self._lone_detection(detection)
        for number in pairs.lone_objects.tolist():
            yield self._lone_object(number)

    def _paired(self, pairs: ConfusionPairs) -> Iterator[Case]:
        for detection, number in zip(
            pairs.detections.tolist(), pairs.objects.tolist(), strict=True
        ):
            row, column = int(self.found.class_ids[detection]), int(self.objects.class_ids[number])
            kind = "correct" if row == column else "confusion"
            yield self._with_object(
                self._with_detection(Case(kind, row, column, self.index), detection),
                number, float(self.iou[detection, number]),
            )  # fmt: skip

    def _lone_detection(self, detection: int) -> Case:
        row = int(self.found.class_ids[detection])
        case = Case("background", row, self.background, self.index)
        case = self._with_detection(case, detection)
        mine = self.overlaps.detection == detection
        others, shares = self.overlaps.object[mine], self.overlaps.iou[mine]
        in_crowd = self.overlaps.objects.crowd[others] & (shares >= MIN_CROWD_SHARE)
        in_crowd &= self.objects.class_ids[others] == row
        taken = ~self.overlaps.objects.crowd[others]
        for kind, allowed in (("ignored", in_crowd), ("duplicate", taken)):
            if allowed.any():
                best = int(np.where(allowed, shares, -1).argmax())
                return self._beside(replace(case, kind=kind), int(others[best]), shares[best])
        near = self._iou_of_class(self.iou[detection], self.objects.class_ids, row)
        if near.max(initial=0) >= MIN_NEAR_IOU:
            best = int(near.argmax())
            return self._beside(replace(case, kind="poor_location"), best, near[best])
        return case

    def _lone_object(self, number: int) -> Case:
        column = int(self.objects.class_ids[number])
        case = Case("missed", self.background, column, self.index)
        case = self._with_object(case, number, 0.0)
        near = self._iou_of_class(self.iou[:, number], self.found.class_ids, column)
        confident = self.found.scores >= SCORE_THRESHOLD
        too_low = np.where(~confident & (near > IOU_THRESHOLD), self.found.scores, 0)
        if too_low.max(initial=0) > 0:
            best, kind = int(too_low.argmax()), "low_score"
        else:
            near = np.where(confident, near, 0)
            if not MIN_NEAR_IOU <= near.max(initial=0) <= IOU_THRESHOLD:
                return case
            best, kind = int(near.argmax()), "poor_box"
        return replace(self._with_detection(case, best), kind=kind, iou=float(near[best]))

    def _iou_of_class(self, iou: FloatArray, class_ids: IntArray, class_id: int) -> FloatArray:
        """The overlaps with boxes of a class; 0 with others."""
        return np.where(class_ids[: len(iou)] == class_id, iou, np.float32(0))

    def _with_detection(self, case: Case, detection: int) -> Case:
        return replace(
            case,
            found=self.found.boxes[detection].copy(),
            score=float(self.found.scores[detection]),
        )

    def _with_object(self, case: Case, number: int, iou: float) -> Case:
        return replace(case, labelled=self.objects.boxes[number].copy(), iou=iou)

    def _beside(self, case: Case, number: int, iou: float) -> Case:
        """A detection without a partner, and the object or region that explains it."""
        class_id = int(self.objects.class_ids[number])
        return replace(self._with_object(case, number, float(iou)), other_class=class_id)
