"""Images of rare and badly found classes drawn more often (`--image-weights`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from utils.structures import FloatArray, ImageRecord

MIN_LEFT_TO_FIND = 1e-3  # of a class that is found perfectly: it is still drawn sometimes


class ImageWeights:
    """How often each image of a data set should be drawn.

    Args:
        records: the images.
        num_classes: C.
    """

    def __init__(self, records: Sequence[ImageRecord], num_classes: int) -> None:
        self.num_classes = num_classes
        ids = [record.targets.class_ids for record in records]
        self._counts = np.array(
            [np.bincount(each, minlength=num_classes) for each in ids], np.float32
        ).reshape(-1, num_classes)  # (images, C)

    def __call__(self, AP_of_class: Sequence[float]) -> FloatArray:
        """The probability of each image, as in YOLOv5.

        An object weighs (1 - AP of its class)^2 / number of objects of its class, an image as much
        as its objects together. A background weighs as much as the mean of the other images
        (nothing in YOLOv5, which so never shows one).

        Args:
            AP_of_class: of the last evaluation, C of them; nothing before the first. What is not a
                number (classes without objects) counts as 0.
        """
        found = np.nan_to_num(np.array(AP_of_class or (0.0,) * self.num_classes, np.float64))
        left = np.maximum((1 - found) ** 2, MIN_LEFT_TO_FIND)
        of_class = left / np.maximum(self._counts.sum(axis=0), 1)
        weights = self._counts @ of_class
        background = self._counts.sum(axis=1) == 0
        known = weights[~background]
        weights[background] = known.mean() if len(known) else 1.0
        return np.asarray(weights / weights.sum(), np.float64)
