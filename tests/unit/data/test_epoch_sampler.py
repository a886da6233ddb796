"""Which images share a mosaic: a few that follow one another, and any with any others."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from data.epoch_sampler import EpochSampler
from data.train_dataset import NUM_COMPANIONS, mosaic_pool
from utils.engine.distributed import Ranks


def epoch_keys(sampler, epoch=0):
    sampler.epoch = epoch
    return [key for batch in sampler for key in batch]


def make(images, pool, seed=0, ranks=None):
    return EpochSampler(images, 4, seed, ranks or Ranks(), keep_batches=False, pool=pool)


@pytest.mark.parametrize(("images", "pool"), [(40, 10), (41, 10), (7, 10), (10, 10), (11, 10)])
def test_companions_come_from_few_neighbours(images, pool):
    keys = epoch_keys(make(images, pool))
    position = {key.index: number for number, key in enumerate(keys)}
    assert len(position) == images
    blocks = np.array_split(np.arange(images), -(-images // pool))
    block_of = {number: tuple(block) for block in blocks for number in block.tolist()}
    assert max(map(len, blocks)) <= pool
    for number, key in enumerate(keys):
        assert len(key.companions) == NUM_COMPANIONS
        assert {position[each] for each in key.companions} <= set(block_of[number])


def test_any_image_is_shown_with_any_other_as_often():
    """Chi-squared over 8 x 8 pairs, of which each is drawn 7 x 3000 / 8 times."""
    sampler = make(8, 4)
    pairs = Counter(
        (key.index, other)
        for epoch in range(3000)
        for key in epoch_keys(sampler, epoch)
        for other in key.companions
    )
    # an image is in its own block always, another one with probability 3/7
    expected = {True: 7 * 3000 / 4, False: 7 * 3000 / 4 * 3 / 7}
    for first in range(8):
        for second in range(8):
            mean = expected[first == second]
            assert abs(pairs[first, second] - mean) < 6 * mean**0.5


def test_the_order_is_not_drawn_from_the_numbers_of_an_image():
    """The first image's random numbers, from (seed, epoch, 0), say nothing of the order."""
    for seed in range(5):
        order = [key.index for key in epoch_keys(make(50, 50, seed))]
        of_image = np.random.default_rng([seed, 0, 0, 0]).permutation(50).tolist()
        assert order != of_image


def test_ranks_share_the_same_mosaics():
    alone = epoch_keys(make(20, 8), 3)
    parts = [make(20, 8, ranks=Ranks(rank, rank, 2)) for rank in range(2)]
    for part in parts:
        part.epoch = 3
    together = [key for batches in zip(*parts, strict=True) for batch in batches for key in batch]
    assert together == alone


@pytest.mark.parametrize(
    ("size", "images"), [(64, 1024), (320, 1024), (640, 256), (1280, 64), (4096, 64)]
)
def test_the_pool_takes_about_as_much_memory_at_any_size(size, images):
    assert mosaic_pool(size) == images
