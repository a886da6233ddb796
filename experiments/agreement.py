"""How closely two lists of detections of one image agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from utils.boxes import pairwise_iou
from utils.structures import Detections

MIN_PAIR_IOU = 0.5  # boxes of one class that overlap less are different objects


@dataclass(frozen=True, slots=True)
class Agreement:
    """The differences between two lists of detections.

    Attributes:
        pairs: number of reference objects that the other list has too.
        max_unpaired_score: the highest score of an object in only one of the lists; 0 if none.
        min_iou: the lowest IoU of a pair; 1 if there is none.
        score_difference: the largest difference of the scores of a pair; 0 if there is none.
    """

    pairs: int
    max_unpaired_score: float
    min_iou: float
    score_difference: float

    @classmethod
    def of(cls, reference: Detections, found: Detections) -> Agreement:
        """Pair each reference object with the other list's best overlapping box of its class."""
        overlap = pairwise_iou(reference.boxes, found.boxes)
        overlap = np.where(reference.class_ids[:, None] == found.class_ids[None], overlap, 0)
        partner = overlap.argmax(1) if len(found) else np.zeros(len(reference), np.int64)
        best = overlap.max(1, initial=0)
        paired = best > MIN_PAIR_IOU
        others = np.setdiff1d(np.arange(len(found)), partner[paired])
        unpaired = np.concatenate([reference.scores[~paired], found.scores[others]])
        differences = np.abs(reference.scores[paired] - found.scores[partner[paired]])
        return cls(
            int(paired.sum()),
            float(unpaired.max(initial=0)),
            float(best[paired].min(initial=1)),
            float(differences.max(initial=0)),
        )
