"""Images in batches as a detector sees them, for training without labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from data.check_images import letterboxed
from data.image_file import read_image
from utils.structures import FloatArray, ImageRecord


class LetterboxedBatches:
    """Batches (B, 3, H, W) in 0-1, in another order at each iteration, half of them mirrored.

    Args:
        records: the images.
        input_hw: height and width of the network input.
        batch_size: images of a batch; the last batch may have fewer.
        seed: of orders and mirrors.
        most: images of an iteration, others each time; None for all.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        input_hw: tuple[int, int],
        batch_size: int,
        seed: int = 0,
        most: int | None = None,
    ) -> None:
        self._records, self._input_hw = records, input_hw
        self._most = len(records) if most is None else most
        self._batch_size, self._rng = batch_size, np.random.default_rng(seed)

    def __iter__(self) -> Iterator[FloatArray]:
        """One batch after the other."""
        order = self._rng.permutation(len(self._records))[: self._most]
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            images = letterboxed(
                [read_image(self._records[place].path) for place in chosen], self._input_hw
            )
            mirrored = self._rng.random(len(images)) < 0.5
            images[mirrored] = images[mirrored, :, :, ::-1]
            yield images

    def __len__(self) -> int:
        """How many there are."""
        return -(-min(len(self._records), self._most) // self._batch_size)
