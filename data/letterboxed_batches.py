"""Batches of letterboxed images without labels, for training from a teacher."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from data.check_images import letterboxed
from data.image_file import read_image
from utils.structures import FloatArray, ImageRecord


class LetterboxedBatches:
    """Batches (B, 3, H, W) in 0-1, in a new random order at each iteration, half of them mirrored.

    Args:
        records: the images.
        input_hw: height and width of the network input.
        batch_size: images of a batch; the last batch may have fewer.
        seed: of the orders and of which images are mirrored.
        max_images: images per iteration, drawn anew each time; None for all.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        input_hw: tuple[int, int],
        batch_size: int,
        seed: int = 0,
        max_images: int | None = None,
    ) -> None:
        self._records, self._input_hw = records, input_hw
        self._max_images = len(records) if max_images is None else max_images
        self._batch_size, self._rng = batch_size, np.random.default_rng(seed)

    def __iter__(self) -> Iterator[FloatArray]:
        """Draw the order and the mirrored images of one epoch, and read them batch by batch."""
        order = self._rng.permutation(len(self._records))[: self._max_images]
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            images = letterboxed(
                [read_image(self._records[index].path) for index in chosen], self._input_hw
            )
            mirrored = self._rng.random(len(images)) < 0.5
            images[mirrored] = images[mirrored, :, :, ::-1]
            yield images

    def __len__(self) -> int:
        """The number of batches per iteration."""
        return -(-min(len(self._records), self._max_images) // self._batch_size)
