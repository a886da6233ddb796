"""Rare and badly found classes are drawn more often, the same in every process."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from data.augment import AugmentConfig
from data.epoch_sampler import EpochSampler
from data.image_weights import ImageWeights
from data.loader import train_loader
from data.train_dataset import SampleKey, TrainDataset
from tests.unit.data.builders import record, write_records
from utils.engine.distributed import Ranks
from utils.errors import ConfigError

HW = (64, 64)
BOX = [8, 8, 40, 40]


def image(tmp_path, *class_ids: int):
    return record(tmp_path / "a.png", HW, [BOX] * len(class_ids), class_ids)


def test_weights_by_hand(tmp_path):
    # class 0 has four objects, class 1 one, class 2 none
    records = [image(tmp_path, 0, 0, 0), image(tmp_path, 0, 1), image(tmp_path)]
    weigh = ImageWeights(records, 3)

    first = weigh(())  # an object of class 0 weighs 1/4, of class 1 1: 0.75, 1.25, their mean 1.0
    later = weigh((0.5, 0.0, float("nan")))  # 0.5^2/4 = 1/16 and 1: 3/16, 17/16, mean 10/16

    np.testing.assert_allclose(first, np.array([0.75, 1.25, 1.0]) / 3)
    np.testing.assert_allclose(later, np.array([3, 17, 10]) / 30)


def test_where_nothing_is_left_to_find_all_weigh_the_same(tmp_path):
    records = [image(tmp_path, 0), image(tmp_path)]

    assert ImageWeights(records, 1)((1.0,)).tolist() == [0.5, 0.5]
    both = [image(tmp_path, 0), image(tmp_path, 1)]
    assert ImageWeights(both, 2)((1.0, 1.0)).tolist() == [0.5, 0.5]  # and no background
    perfect, missed = ImageWeights(both, 2)((1.0, 0.0))
    assert 0 < perfect < 0.01 < missed  # it is drawn sometimes
    assert ImageWeights([image(tmp_path)] * 4, 2)(()).tolist() == [0.25] * 4


@pytest.mark.parametrize("count", [1, 2, 3])
def test_draws_follow_the_weights_and_ranks_share_them(count):
    probabilities = np.array([0.7, 0.2, 0.1, 0.0])
    samplers = [
        EpochSampler(4, 3, 0, Ranks(rank, rank, count), keep_batches=False) for rank in range(count)
    ]
    drawn: Counter[int] = Counter()
    companions: Counter[int] = Counter()
    for epoch in range(500):
        seen = []
        for sampler in samplers:
            sampler.epoch, sampler.probabilities = epoch, probabilities
            seen += [key for batch in sampler for key in batch]
        assert len(seen) == 4
        assert len(set(seen)) == 4  # one image several times is not the same sample
        drawn.update(key.index for key in seen)
        companions.update(index for key in seen for index in key.companions)

    for counts in (drawn, companions):
        shares = np.array([counts[index] for index in range(4)]) / counts.total()
        np.testing.assert_allclose(shares, probabilities, atol=0.03)


def test_repeats_differ_and_companions_are_what_a_mosaic_shows(tmp_path):
    records = write_records(tmp_path, [HW] * 9)
    dataset = TrainDataset(records, 64, AugmentConfig.only(mosaic=1.0), seed=0)
    classes = [int(item.targets.class_ids[0]) for item in records]

    plain, again = dataset[SampleKey(0, 0)], dataset[SampleKey(0, 0, 1)]
    assert not np.array_equal(plain.image, again.image)
    for seed in range(20):  # of three classes; the companions have class 2
        shown = dataset[SampleKey(seed, 2, 0, (5, 8, 2, 5, 8, 2, 5))]
        assert {classes[2]} >= set(shown.targets.class_ids.tolist())


def test_not_with_rectangular_batches(tmp_path):
    records = write_records(tmp_path, [HW])
    dataset = TrainDataset(records, 64, AugmentConfig.only(), seed=0, rect_shapes=[HW])

    with pytest.raises(ConfigError, match=r"^--image-weights: rectangular .*; leave --rect out$"):
        train_loader(
            dataset, batch_size=1, workers=0, seed=0, device_is_cuda=False,
            weights=ImageWeights(records, 3),
        )  # fmt: skip
