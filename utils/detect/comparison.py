"""What two networks found in one image, box by box: the same, something else, or nothing.

Boxes of the two are paired one to one where they overlap by SAME_OBJECT_IOU or more: boxes of one
class first, the largest overlap first, then those of different classes. A pair agrees if the class
is the same, the overlap is at least AGREEING_IOU and the scores differ by AGREEING_SCORE at most;
else it differs. What is left is missing (only the first network has it) or extra (only the second).

Shapes: N boxes of the first network, M of the second, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from utils.boxes import pairwise_iou
from utils.errors import CheckpointError
from utils.metrics.matches import match_one_to_one
from utils.metrics.overlaps import FloatArray64
from utils.structures import Detections, IntArray

Status = Literal["agreeing", "differing", "missing", "extra"]
Difference = Literal["class", "box", "score"]
STATUSES: tuple[Status, ...] = ("agreeing", "differing", "missing", "extra")
DIFFERENCES: tuple[Difference, ...] = ("class", "box", "score")
SAME_OBJECT_IOU = 0.5
AGREEING_IOU = 0.9
AGREEING_SCORE = 0.05
DECIMALS = 5  # to which overlaps and scores are compared, as they are written
_MARGIN = 1e-3  # pixels: a box clipped to a line at the image's edge has an area, too


@dataclass(frozen=True, slots=True)
class ComparedBox:
    """A box of one of two networks, or a pair of theirs.

    Attributes:
        status: one of STATUSES.
        differs: in what a pair does; empty where it agrees, and for single boxes.
        first: index among the first network's detections; None for an extra box.
        second: index among the second network's; None for a missing box.
        iou: of the pair.
    """

    status: Status
    differs: tuple[Difference, ...] = ()
    first: int | None = None
    second: int | None = None
    iou: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The detections of two networks in one image, and what became of each.

    Attributes:
        first: of the first network.
        second: of the second one, class ids those of the first.
        boxes: the first's in their order, each with its partner, then the extra ones.
    """

    first: Detections
    second: Detections
    boxes: tuple[ComparedBox, ...]

    @classmethod
    def of(cls, first: Detections, second: Detections) -> Comparison:
        """Compare detections in the same image; class ids are those of one list of names."""
        partners = _partners(first, second)
        boxes = [
            _pair(first, second, index, *partners[index])
            if index in partners
            else ComparedBox("missing", first=index)
            for index in range(len(first))
        ]
        paired = {partner for partner, _ in partners.values()}
        alone = [index for index in range(len(second)) if index not in paired]
        extra = [ComparedBox("extra", second=index) for index in alone]
        return cls(first, second, (*boxes, *extra))


def _partners(first: Detections, second: Detections) -> dict[int, tuple[int, float]]:
    """Index of a box of the first -> index of the second's and their overlap."""
    iou = pairwise_iou(_grown(first), _grown(second))  # (N, M)
    same_class = first.class_ids[:, None] == second.class_ids[None]
    rows, columns = np.nonzero(iou >= SAME_OBJECT_IOU)
    order = iou[rows, columns] + same_class[rows, columns]
    pairs = zip(*match_one_to_one(rows, columns, order), strict=True)
    return {int(row): (int(column), float(iou[row, column])) for row, column in pairs}


def _grown(detections: Detections) -> FloatArray64:
    margin = np.array([-_MARGIN, -_MARGIN, _MARGIN, _MARGIN])
    boxes: FloatArray64 = detections.boxes + margin
    return boxes


def _pair(
    first: Detections, second: Detections, index: int, partner: int, iou: float
) -> ComparedBox:
    iou = round(iou, DECIMALS)
    apart = abs(float(first.scores[index]) - float(second.scores[partner]))
    checks = (
        first.class_ids[index] != second.class_ids[partner],
        iou < AGREEING_IOU,
        round(apart, DECIMALS) > AGREEING_SCORE,
    )
    differs = tuple(name for name, is_so in zip(DIFFERENCES, checks, strict=True) if is_so)
    return ComparedBox("differing" if differs else "agreeing", differs, index, partner, iou)


@dataclass(frozen=True, slots=True)
class ClassMap:
    """The second network's class ids in terms of the first's.

    Attributes:
        to_first: (C,) the first's class id of each of the second's.
    """

    to_first: IntArray

    @classmethod
    def by_name(
        cls, first: Sequence[str], second: Sequence[str], files: tuple[str, str]
    ) -> ClassMap:
        """Match the classes of two networks, in whatever order, by their names.

        Args:
            first: name of each class id of the first network.
            second: of the second one.
            files: their weights, for messages.

        Raises:
            CheckpointError: one has a class that the other has not, or two of one name.
        """
        if tuple(first) == tuple(second):
            return cls(np.arange(len(first)))
        sides = ((first, second, files), (second, first, files[::-1]))
        for names, others, (file, other_file) in sides:
            for class_id, name in enumerate(names):
                if name not in others:
                    raise CheckpointError(
                        f"--compare: {other_file} has no class {name!r}, which is class {class_id} "
                        f"of {file}; compare networks with the same class names"
                    )
                if names.index(name) != class_id:
                    raise CheckpointError(
                        f"--compare: {file} has two classes {name!r}, and {other_file} has them in "
                        "another order; compare networks with the same class names"
                    )
        return cls(np.array([first.index(name) for name in second], np.int64))

    def in_first(self, detections: Detections) -> Detections:
        """The second network's detections with the first's class ids."""
        return replace(detections, class_ids=self.to_first[detections.class_ids])

    def in_second(self, class_ids: Sequence[int]) -> tuple[int, ...]:
        """Class ids of the first network as the second's."""
        return tuple(int(np.flatnonzero(self.to_first == each)[0]) for each in class_ids)
