"""Batches of arrays are those that torch's loader makes, whatever makes them."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest

from data.array_loader import ArrayLoader
from data.eval_dataset import EvalDataset
from data.loader import eval_loader
from tests.unit.data.builders import record, write_image
from utils.errors import DatasetError


@pytest.fixture
def records(tmp_path):
    """Seven images of three sizes, one of them without an object."""
    sizes = [(48, 64), (64, 48), (40, 64), (48, 64), (64, 64), (48, 64), (64, 48)]
    return [
        record(write_image(tmp_path / f"{seed}.png", hw, seed), hw,
               [[4, 4, 20 + seed, 30]] * (seed != 3), [seed % 3] * (seed != 3))
        for seed, hw in enumerate(sizes)
    ]  # fmt: skip


@pytest.mark.parametrize("rect", [True, False])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_batches_of_the_other_loader(records, workers, rect):
    dataset = EvalDataset(records, 64, 2, rect=rect)
    loader = ArrayLoader(dataset, workers=workers)
    expected = list(eval_loader(dataset, workers=0, device_is_cuda=False))
    for _ in range(2):
        batches = list(loader)
        assert len(batches) == len(loader) == len(expected)
        for batch, other in zip(batches, expected, strict=True):
            assert (batch.paths, batch.image_ids) == (other.paths, other.image_ids)
            assert batch.letterboxes == other.letterboxes
            for number in range(len(batch.paths)):
                np.testing.assert_array_equal(batch.image(number), other.image(number))
                found, wanted = batch.targets(number), other.targets(number)
                np.testing.assert_array_equal(found.boxes, wanted.boxes)
                np.testing.assert_array_equal(found.class_ids, wanted.class_ids)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_is_gone_is_an_error(records, workers):
    dataset = EvalDataset(records, 64, 2, rect=False)
    records[2].path.unlink()
    with pytest.raises(DatasetError, match=r"2\.png: no such file"):
        list(ArrayLoader(dataset, workers=workers))


def test_no_thread_is_left_behind(records):
    loader = ArrayLoader(EvalDataset(records, 64, 1, rect=False), workers=2)
    before = threading.active_count()
    batches = iter(loader)
    assert len(list(itertools.islice(batches, 2))) == 2
    batches.close()
    assert threading.active_count() == before


def test_a_data_set_without_images():
    loader = ArrayLoader(EvalDataset([], 64, 2, rect=True), workers=2)
    assert list(loader) == [] and len(loader) == 0
