"""Batches for training without labels."""

from __future__ import annotations

import numpy as np

from data.check_images import letterboxed
from data.image_file import read_image
from data.letterboxed_batches import LetterboxedBatches
from tests.unit.data.builders import write_image
from utils.structures import ImageRecord, Targets


def records(tmp_path, count: int) -> list[ImageRecord]:
    paths = [write_image(tmp_path / f"{n}.png", seed=n) for n in range(count)]
    return [
        ImageRecord(path=path, image_id=n, image_hw=(48, 64), targets=Targets.empty(),
                    areas=np.zeros(0, np.float32), crowd=Targets.empty())
        for n, path in enumerate(paths)
    ]  # fmt: skip


def test_every_image_once_in_each_pass_mirrored_or_not(tmp_path):
    found = records(tmp_path, 5)
    plain = [letterboxed([read_image(record.path)], (64, 64))[0] for record in found]
    batches = LetterboxedBatches(found, (64, 64), 2)
    assert len(batches) == 3
    orders, mirrored = set(), 0
    for _ in range(6):
        passed = list(batches)
        assert [len(batch) for batch in passed] == [2, 2, 1]
        order = []
        for image in np.concatenate(passed):
            same = [n for n, one in enumerate(plain) if np.array_equal(one, image)]
            flipped = [n for n, one in enumerate(plain) if np.array_equal(one[..., ::-1], image)]
            assert len(same) + len(flipped) == 1
            mirrored += bool(flipped)
            order += same or flipped
        assert sorted(order) == list(range(5))
        orders.add(tuple(order))
    assert len(orders) > 1
    assert 5 < mirrored < 25


def test_no_more_than_asked_for(tmp_path):
    batches = LetterboxedBatches(records(tmp_path, 5), (64, 64), 2, max_images=3)
    assert len(batches) == 2
    assert [len(batch) for batch in batches] == [2, 1]


def test_a_seed_gives_the_same_batches(tmp_path):
    found = records(tmp_path, 4)
    one, same, other = (list(LetterboxedBatches(found, (64, 64), 4, seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one[0], same[0])
    assert not np.array_equal(one[0], other[0])
