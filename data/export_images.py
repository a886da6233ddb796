"""Images of the user's data for export.py: to evaluate files on, and to calibrate 8-bit ones on."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data.check_images import letterboxed
from data.dataset_spec import DatasetSpec
from data.image_file import read_image
from data.records import read_records
from utils.structures import FloatArray, ImageRecord

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExportImages:
    """What export.py takes of a data set.

    Attributes:
        val: to evaluate on; empty without a data set.
        calibration: some of train; empty where nothing is calibrated.
        train: all of it, under the same condition.
        class_names: of the data set, or the one of all classes.
        single_class: all classes count as one.
    """

    val: Sequence[ImageRecord] = ()
    calibration: Sequence[ImageRecord] = ()
    train: Sequence[ImageRecord] = ()
    class_names: tuple[str, ...] = ()
    single_class: bool = False

    @classmethod
    def read(
        cls, spec: DatasetSpec, num_calibration: int, *, single_class: bool = False
    ) -> ExportImages:
        """Read the labels of the splits.

        Args:
            spec: the data set.
            num_calibration: images to calibrate on, always the same ones; 0 for none.
            single_class: take all classes as one.
        """
        val = read_records(spec, "val", single_class=single_class)
        names = spec.classes(single=single_class)
        if not num_calibration:
            return cls(val, class_names=names, single_class=single_class)
        train = read_records(spec, "train", single_class=single_class)
        order = np.random.default_rng(0).permutation(len(train))[:num_calibration]
        chosen = tuple(train[index] for index in sorted(order.tolist()))
        shared = {record.path for record in chosen} & {record.path for record in val}
        if shared:
            logger.warning(
                "%d of %d images to calibrate on are evaluated too: the loss looks smaller than "
                "it is", len(shared), len(chosen),
            )  # fmt: skip
        return cls(val, chosen, train, names, single_class)

    def calibration_sha256(self) -> str:
        """Of the files calibrated on, in order."""
        digest = hashlib.sha256()
        for record in self.calibration:
            digest.update(record.path.read_bytes())
        return digest.hexdigest()


def network_inputs(
    records: Sequence[ImageRecord], input_hw: tuple[int, int], batch_size: int
) -> Iterator[FloatArray]:
    """Letterboxed images without augmentation, (B, 3, H, W) in 0-1, each filling a batch."""
    for record in records:
        one = letterboxed([read_image(record.path)], input_hw)
        yield np.repeat(one, batch_size, 0)
