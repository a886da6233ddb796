"""Sampling weights for images of rare classes and of classes with low AP (`--image-weights`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from utils.structures import FloatArray, ImageRecord

MIN_CLASS_WEIGHT = 1e-3  # of a class whose AP is 1: its images are still drawn sometimes


class ImageWeights:
    """Sampling probabilities of the images of a data set.

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
        """(images,) float64 probabilities that sum to 1, as in YOLOv5.

        An object weighs (1 - AP of its class)^2 / number of objects of its class, an image as much
        as its objects together. A background weighs as much as the mean of the other images (0 in
        YOLOv5, which therefore never draws one).

        Args:
            AP_of_class: C values of the last evaluation; empty before the first one. NaN
                (a class without objects) counts as 0.
        """
        known_AP = np.nan_to_num(np.array(AP_of_class or (0.0,) * self.num_classes, np.float64))
        of_AP = np.maximum((1 - known_AP) ** 2, MIN_CLASS_WEIGHT)
        of_class = of_AP / np.maximum(self._counts.sum(axis=0), 1)
        weights = self._counts @ of_class
        background = self._counts.sum(axis=1) == 0
        labelled = weights[~background]
        weights[background] = labelled.mean() if len(labelled) else 1.0
        return np.asarray(weights / weights.sum(), np.float64)
