"""Which samples make the batches of an epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from data.train_dataset import NUM_COMPANIONS, SampleKey
from utils.engine.distributed import Ranks
from utils.errors import DatasetError
from utils.structures import FloatArray


class EpochSampler:
    """Batches of sample keys; with `keep_batches`, whole batches are shuffled, not images.

    All ranks draw the same batches, and each takes its part of every batch: together they see every
    image once. A last batch with fewer images than `min_batch` for each joins the one before.

    The order is cut into blocks of at most `pool` images, equally long give or take one. The other
    images of a mosaic are drawn from the block of its first, each with the same probability, so
    that one process decodes an image about once in an epoch and not four times (of several ranks,
    each decodes the part of the block that its mosaics show). The order is random, and so is what a
    block holds: an image shares its mosaics with any other as often as with any further one.

    Attributes:
        epoch: the one to draw next.
        probabilities: of the images; None takes each once.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int,
        ranks: Ranks,
        *,
        keep_batches: bool,
        min_batch: int = 1,
        pool: int = 256,
    ) -> None:
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.ranks, self.keep_batches, self.pool = ranks, keep_batches, pool
        self.epoch = 0
        self.probabilities: FloatArray | None = None
        self.min_last = ranks.count * min_batch
        if min(num_samples, batch_size) < self.min_last:
            raise DatasetError(
                f"{ranks.count} processes need at least {self.min_last} images in a batch, there "
                f"are {min(num_samples, batch_size)}"
            )

    def __len__(self) -> int:
        return len(self._bounds())

    def _bounds(self) -> list[tuple[int, int]]:
        """Start and end of each batch in the order of images."""
        starts = list(range(0, self.num_samples, self.batch_size))
        if len(starts) > 1 and self.num_samples - starts[-1] < self.min_last:
            starts.pop()
        return list(zip(starts, [*starts[1:], self.num_samples], strict=True))

    def __iter__(self) -> Iterator[list[SampleKey]]:
        # A branch of its own: the samples draw from the trunk.
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, self.epoch], spawn_key=(1,)))
        bounds = self._bounds()
        numbers = np.arange(len(bounds))
        if self.probabilities is not None:
            keys = self._drawn_keys(rng, self.probabilities)
        elif self.keep_batches:
            rng.shuffle(numbers)
            keys = [SampleKey(self.epoch, index) for index in range(self.num_samples)]
        else:
            keys = self._shuffled_keys(rng)
        for number in numbers:
            start, end = bounds[number]
            yield list(self.ranks.shard(keys[start:end]))

    def _shuffled_keys(self, rng: np.random.Generator) -> list[SampleKey]:
        """Each image once, with the images of its mosaic."""
        order = rng.permutation(self.num_samples)
        keys = []
        for block in np.array_split(order, -(-self.num_samples // self.pool)):
            companions = rng.choice(block, (len(block), NUM_COMPANIONS)).tolist()
            for index, drawn in zip(block.tolist(), companions, strict=True):
                keys.append(SampleKey(self.epoch, index, 0, tuple(drawn)))
        return keys

    def _drawn_keys(self, rng: np.random.Generator, probabilities: FloatArray) -> list[SampleKey]:
        """As many samples as images, each with the images of its mosaic."""
        shape = (self.num_samples, 1 + NUM_COMPANIONS)
        drawn = rng.choice(self.num_samples, size=shape, p=probabilities).tolist()
        times: Counter[int] = Counter()
        keys = []
        for index, *companions in drawn:
            keys.append(SampleKey(self.epoch, index, times[index], tuple(companions)))
            times[index] += 1
        return keys
