from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
import torch

from data.augment import AugmentConfig
from data.batch_maker import make_batch
from data.eval_dataset import EvalDataset
from data.loader import BATCHES_AHEAD, eval_loader, train_loader, worker_deaths_named
from data.train_dataset import SampleKey, TrainDataset
from tests.error_messages import assert_message
from tests.unit.data.builders import write_records
from utils.errors import DatasetError
from utils.structures import Sample, Targets

CONFIG = AugmentConfig.only(hsv_s=0.5, scale=0.3, fliplr=0.5, mosaic=0.5)
HWS = [(48, 64), (64, 48), (40, 40), (30, 90), (64, 64)]


@pytest.fixture
def records(tmp_path):
    return write_records(tmp_path, HWS)


def make_loader(records, workers=0, **changes):
    dataset = TrainDataset(records, 64, CONFIG, seed=3, **changes)
    return train_loader(dataset, batch_size=2, workers=workers, seed=3, device_is_cuda=False)


def fingerprint(batches):
    return [
        (
            [path.name for path in batch.paths],
            batch.images.numpy().tobytes(),
            batch.boxes.numpy().tobytes(),
            batch.class_ids.tolist(),
            batch.image_index.tolist(),
        )
        for batch in batches
    ]


def sample(number, num_boxes):
    image = np.zeros((4, 6, 3), np.uint8)
    image[1, 2] = (10, 20, 30 + number)
    boxes = np.arange(4 * num_boxes, dtype=np.float32).reshape(-1, 4)
    return Sample(image, Targets(boxes, np.full(num_boxes, number)), image_id=100 + number)


class Given(list):
    """These samples, by their positions."""

    def input_hw(self, key):
        return self[key].image.shape[:2]


def test_a_batch_of_samples():
    batch = make_batch(Given([sample(0, 2), sample(1, 0), sample(2, 1)]), range(3))

    assert batch.images.shape == (3, 3, 4, 6) and batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous()
    assert batch.images[2, :, 1, 2].tolist() == [10, 20, 32]
    assert batch.image_index.tolist() == [0, 0, 2] and batch.image_index.dtype == torch.int64
    assert batch.class_ids.tolist() == [0, 0, 2] and batch.class_ids.dtype == torch.int64
    assert batch.boxes.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]]
    assert batch.image_ids == (100, 101, 102)
    assert batch.letterboxes == (None, None, None)


def test_a_batch_without_any_object():
    batch = make_batch(Given([sample(0, 0)]), [0])

    assert batch.boxes.shape == (0, 4) and batch.boxes.dtype == torch.float32
    assert batch.image_index.shape == batch.class_ids.shape == (0,)


def test_images_of_two_sizes_make_no_batch():
    wide = Sample(np.zeros((4, 7, 3), np.uint8), Targets.empty(), image_id=0)

    with pytest.raises(ValueError, match=r"shape \(4, 7, 3\) for a batch of \(4, 6\)"):
        make_batch(Given([sample(0, 0), wide]), range(2))


def test_every_image_once_an_epoch_the_last_batch_smaller(records):
    loader = make_loader(records)

    batches = list(loader.epoch(0))

    assert len(loader) == len(batches) == 3
    assert [len(batch.paths) for batch in batches] == [2, 2, 1]
    paths = {path for batch in batches for path in batch.paths}
    assert paths == {item.path for item in records}


def test_batches_do_not_depend_on_the_workers(records):
    alone = make_loader(records)
    expected = {epoch: fingerprint(alone.epoch(epoch)) for epoch in (0, 1)}

    for workers in (1, 2, 5):
        loader = make_loader(records, workers)
        # out of order too: continuing at epoch 1 gives what a whole run gives
        for epoch in (1, 0, 1):
            assert fingerprint(loader.epoch(epoch)) == expected[epoch]


def test_epochs_differ(records):
    loader = make_loader(records)
    orders = {
        tuple(path.name for batch in loader.epoch(number) for path in batch.paths)
        for number in range(5)
    }

    assert len(orders) >= 4


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_left_early_does_no_harm(records, workers):
    loader = make_loader(records, workers)
    expected = fingerprint(loader.epoch(1))

    next(iter(loader.epoch(0)))

    assert fingerprint(loader.epoch(1)) == expected


def test_batches_that_are_kept_stay_as_they_are(records):
    alone, loader = make_loader(records), make_loader(records, workers=1)
    epochs = range(BATCHES_AHEAD)  # more batches than there are buffers
    expected = [fingerprint(alone.epoch(epoch)) for epoch in epochs]

    kept = [list(loader.epoch(epoch)) for epoch in epochs]

    assert [fingerprint(batches) for batches in kept] == expected


def test_batches_leave_torch_random_state_alone(records):
    loader = make_loader(records)
    before = torch.get_rng_state()

    list(loader.epoch(0))

    assert torch.equal(torch.get_rng_state(), before)


def test_rectangular_batches_stay_together(records):
    shapes = [(32, 64), (32, 64), (64, 64), (64, 64), (64, 32)]
    loader = make_loader(records, rect_shapes=shapes)

    seen = [[path.stem for path in batch.paths] for batch in loader.epoch(0)]

    assert sorted(seen) == [["0", "1"], ["2", "3"], ["4"]]
    orders = {tuple(batch.paths[0] for batch in loader.epoch(number)) for number in range(6)}
    assert len(orders) > 1


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_in_the_order_of_the_data_set(records, workers):
    dataset = EvalDataset(records, 64, 2, rect=True)
    loader = eval_loader(dataset, workers=workers, device_is_cuda=False)

    for _ in range(2):
        batches = list(loader)
        assert [path for batch in batches for path in batch.paths] == [
            item.path for item in dataset.records
        ]
        assert [tuple(batch.images.shape) for batch in batches] == [
            (2, 3, *dataset.input_hws[0]),
            (2, 3, *dataset.input_hws[2]),
            (1, 3, *dataset.input_hws[4]),
        ]
        assert all(letterbox for batch in batches for letterbox in batch.letterboxes)
    assert len(loader) == 3


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_arrive_as_one_line(records, workers):
    training = make_loader(records, workers)
    dataset = EvalDataset(records, 64, 2, rect=False)
    evaluation = eval_loader(dataset, workers=workers, device_is_cuda=False)
    records[2].path.unlink()

    for batches in (training.epoch(0), evaluation):
        with pytest.raises(DatasetError) as caught:
            list(batches)
        assert_message(str(caught.value), f"{records[2].path}: ", "no such file")


def test_sample_keys_are_plain_tuples():
    assert SampleKey(2, 5) == (2, 5, 0, ())
    assert SampleKey(2, 5).index == 5


class Deadly(TrainDataset):
    """Its third image kills whoever reads it."""

    def __getitem__(self, key):
        if key.index == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(key)


def test_a_worker_that_dies_is_said_with_the_image_in_flight(records):
    loader = train_loader(
        Deadly(records, 64, CONFIG, seed=3), batch_size=2, workers=1, seed=3, device_is_cuda=False
    )
    with (
        pytest.raises(DatasetError, match="the process that loads images died") as caught,
        worker_deaths_named(loader),
    ):
        for _ in loader.epoch(0):
            time.sleep(0.2)  # so that the death is noticed outside the loader as well
    assert str(records[2].path) in str(caught.value)


def test_other_errors_keep_their_trace(records):
    class Broken(TrainDataset):
        def __getitem__(self, key):
            raise RuntimeError("a bug")

    loader = train_loader(
        Broken(records, 64, CONFIG, seed=3), batch_size=2, workers=0, seed=3, device_is_cuda=False
    )
    with pytest.raises(RuntimeError, match="a bug"):
        list(loader.epoch(0))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_is_decoded_once_where_all_fit_the_pool(records, workers, tmp_path):
    log = tmp_path / "log"

    class Counting(TrainDataset):
        def _read_resized(self, index):
            with log.open("a") as file:
                file.write(f"{index}\n")
            return super()._read_resized(index)

    config = AugmentConfig.only(mosaic=1.0, mixup=0.5)
    dataset = Counting(records, 64, config, seed=3)
    loader = train_loader(dataset, batch_size=2, workers=workers, seed=3, device_is_cuda=False)
    for epoch in range(3):
        list(loader.epoch(epoch))
    assert sorted(log.read_text().split()) == ["0", "1", "2", "3", "4"]
