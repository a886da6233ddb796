from __future__ import annotations

import logging
from dataclasses import replace

import cv2
import numpy as np
import pytest

from data.augment import AugmentConfig
from data.dataset_spec import load_dataset_spec
from data.eval_dataset import EvalDataset
from data.image_cache import CacheSettings
from data.image_file import read_image
from data.records import read_records
from data.train_dataset import SampleKey, TrainDataset
from tests.error_messages import assert_message
from tests.unit.data.builders import record, write_image, write_records
from utils.errors import DatasetError

HWS = [(48, 64), (64, 48), (40, 40), (30, 90), (64, 64), (21, 33)]
STRONG = AugmentConfig.only(
    hsv_h=0.015, hsv_s=0.7, hsv_v=0.4, degrees=5, translate=0.1, scale=0.5, fliplr=0.5, mixup=0.5
)
MOSAIC = replace(STRONG, mosaic=0.5)


@pytest.fixture
def records(tmp_path):
    return write_records(tmp_path, HWS)


def same(sample, other):
    return (
        np.array_equal(sample.image, other.image)
        and np.array_equal(sample.targets.boxes, other.targets.boxes)
        and np.array_equal(sample.targets.class_ids, other.targets.class_ids)
    )


def test_without_augmentation_a_sample_is_the_letterboxed_image(records):
    dataset = TrainDataset(records, 64, AugmentConfig.only(), seed=0)

    sample = dataset[SampleKey(0, 0)]

    assert sample.image.shape == (64, 64, 3)
    np.testing.assert_array_equal(sample.image[8:56], read_image(records[0].path))
    assert (sample.image[:8] == 114).all() and (sample.image[56:] == 114).all()
    assert sample.targets.boxes.tolist() == [[16, 20, 48, 44]]
    assert sample.path == records[0].path and sample.letterbox is None
    assert len(dataset) == len(HWS)


def test_small_images_are_enlarged(records):
    sample = TrainDataset(records, 80, AugmentConfig.only(), seed=0)[SampleKey(0, 2)]

    assert sample.targets.boxes.tolist() == [[20, 20, 60, 60]]


@pytest.mark.parametrize("config", [STRONG, MOSAIC, replace(MOSAIC, mosaic=1.0)])
def test_a_sample_depends_on_seed_epoch_and_index_alone(records, config):
    keys = [SampleKey(epoch, index) for epoch in range(2) for index in range(len(HWS))]
    first = TrainDataset(records, 64, config, seed=7)
    again = TrainDataset(records, 64, config, seed=7)
    other_seed = TrainDataset(records, 64, config, seed=8)

    samples = {key: first[key] for key in keys}

    assert all(same(samples[key], again[key]) for key in reversed(keys))
    assert not any(same(samples[key], other_seed[key]) for key in keys)
    assert not any(same(samples[SampleKey(0, i)], samples[SampleKey(1, i)]) for i in range(6))


@pytest.mark.parametrize("config", [AugmentConfig.only(mosaic=1.0), replace(MOSAIC, mosaic=1.0)])
def test_mosaics_have_good_boxes(records, config):
    dataset = TrainDataset(records, 64, config, seed=0)

    samples = [dataset[SampleKey(epoch, 0)] for epoch in range(20)]

    for sample in samples:
        boxes = sample.targets.boxes
        assert sample.image.shape == (64, 64, 3) and sample.image.dtype == np.uint8
        assert boxes.dtype == np.float32 and sample.targets.class_ids.dtype == np.int64
        assert (boxes >= 0).all() and (boxes <= 64).all()
        assert (boxes[:, 2:] - boxes[:, :2] > 2).all()
    assert max(len(sample.targets) for sample in samples) >= 3


def test_mosaics_end_with_their_epoch(records):
    config = AugmentConfig.only(mosaic=1.0)
    plain = TrainDataset(records, 64, AugmentConfig.only(), seed=0)
    dataset = TrainDataset(records, 64, config, seed=0, mosaic_until_epoch=2)

    assert not same(dataset[SampleKey(1, 0)], plain[SampleKey(1, 0)])
    assert same(dataset[SampleKey(2, 0)], plain[SampleKey(2, 0)])
    assert same(dataset[SampleKey(9, 0)], plain[SampleKey(9, 0)])


def test_rectangular_training_has_no_mosaics(records):
    shapes = [(64, 96)] * len(HWS)
    dataset = TrainDataset(records, 64, AugmentConfig.only(mosaic=1.0), seed=0, rect_shapes=shapes)

    sample = dataset[SampleKey(0, 0)]

    assert sample.image.shape == (64, 96, 3)
    assert len(sample.targets) == 1
    with pytest.raises(ValueError, match=r"^1 rect_shapes for 6 records$"):
        TrainDataset(records, 64, STRONG, seed=0, rect_shapes=[(64, 64)])


def test_cached_images_give_the_same_samples(records):
    plain = TrainDataset(records, 64, MOSAIC, seed=0)
    cached = TrainDataset(records, 64, MOSAIC, seed=0, cache=CacheSettings("ram"))
    for item in records:
        item.path.rename(item.path.with_suffix(".away"))

    samples = [cached[SampleKey(0, index)] for index in range(len(HWS))]

    for item in records:
        item.path.with_suffix(".away").rename(item.path)
    assert all(same(sample, plain[SampleKey(0, i)]) for i, sample in enumerate(samples))


def test_copy_paste_is_said_to_have_no_effect(records, caplog):
    with caplog.at_level(logging.WARNING):
        TrainDataset(records, 64, AugmentConfig.only(copy_paste=0.1), seed=0)

    assert caplog.messages == ["copy_paste is 0.1, but has no effect: no label is a polygon"]


def test_images_that_vanish_or_change_are_named(records):
    train = TrainDataset(records, 64, AugmentConfig.only(), seed=0)
    evaluation = EvalDataset(records, 64, 2, rect=False)
    records[0].path.unlink()
    write_image(records[1].path, (32, 16))

    for gone, changed in ((SampleKey(0, 0), SampleKey(0, 1)), (0, 1)):
        dataset = train if isinstance(gone, SampleKey) else evaluation
        with pytest.raises(DatasetError) as caught:
            dataset[gone]
        assert_message(str(caught.value), f"{records[0].path}: ", "no such file")
        with pytest.raises(DatasetError) as caught:
            dataset[changed]
        assert_message(str(caught.value), f"{records[1].path}: ", "16x32 ... 48x64 ... start again")


@pytest.mark.parametrize("rect", [False, True])
@pytest.mark.parametrize("image_size", [32, 64, 128])
def test_evaluation_letterboxes_know_the_way(records, rect, image_size):
    dataset = EvalDataset(records, image_size, 2, rect=rect, stride=16)

    for index, item in enumerate(dataset.records):
        sample = dataset[index]
        assert sample.letterbox.original_hw == item.image_hw
        assert sample.letterbox.input_hw == sample.image.shape[:2] == dataset.input_hws[index]
        assert sample.path == item.path
        np.testing.assert_array_equal(
            sample.targets.boxes, sample.letterbox.apply_boxes(item.targets.boxes)
        )
        back = sample.letterbox.undo_boxes(sample.targets.boxes)
        np.testing.assert_allclose(back, item.targets.boxes, atol=1e-3)


def test_square_evaluation_keeps_the_order(records):
    dataset = EvalDataset(records, 64, 2, rect=False)

    assert dataset.records == records
    assert set(dataset.input_hws) == {(64, 64)}


def test_rectangular_evaluation_sorts_by_aspect(records):
    dataset = EvalDataset(records, 64, 2, rect=True)

    assert [item.image_hw for item in dataset.records] == [
        (30, 90),
        (21, 33),
        (48, 64),
        (40, 40),
        (64, 64),
        (64, 48),
    ]
    assert dataset.input_hws == ((96, 96),) * 6  # neighbours share the largest input they need
    assert len(dataset) == 6
    assert len(EvalDataset([], 64, 2, rect=True)) == 0


def test_rectangular_input_sizes_do_not_depend_on_the_batch_size(records):
    widest = next(record for record in records if record.image_hw == (30, 90))
    many = [widest] * 8 + [record for record in records if record is not widest]
    # 30/90 of 64 is 21.3: 0.67 strides and a half, so two; the second group has squares.
    expected = ((64, 96),) * 8 + ((96, 96),) * 5
    for batch_size in (1, 2, 32):
        assert EvalDataset(many, 64, batch_size, rect=True).input_hws == expected


@pytest.mark.parametrize(
    ("image_size", "interpolation"), [(32, cv2.INTER_AREA), (128, cv2.INTER_LINEAR)]
)
def test_images_shrink_by_area_and_grow_by_line(records, image_size, interpolation):
    sample = EvalDataset(records, image_size, 1, rect=False)[4]

    original = read_image(records[4].path)
    expected = cv2.resize(original, (image_size, image_size), interpolation=interpolation)
    np.testing.assert_array_equal(sample.image, expected)


def test_a_longer_side_that_rounds_up_still_fits_a_square(tmp_path):
    # 147 * (320 / 147) is a hair more than 320, which YOLOv5's loader rounds up to 321.
    path = write_image(tmp_path / "a.png", (147, 100))
    item = record(path, (147, 100), [(0, 0, 100, 147)], [0])

    sample = EvalDataset([item], 320, 1, rect=False)[0]
    train = TrainDataset([item], 320, AugmentConfig.only(mosaic=1.0), seed=0)[SampleKey(0, 0)]

    assert sample.image.shape == train.image.shape == (320, 320, 3)
    assert sample.letterbox.resized_hw[0] == 320
    assert sample.targets.boxes[0, 3] == 320


def test_coco128(shared, tmp_path):
    names = load_dataset_spec("coco128.yaml").class_names
    file = tmp_path / "coco128.yaml"
    folder = shared / "data" / "coco128"
    split = "images/train2017"
    file.write_text(f"path: {folder}\ntrain: {split}\nval: {split}\nnames: {list(names)}\n")
    dataset = EvalDataset(read_records(load_dataset_spec(file), "val"), 64, 8, rect=True)

    samples = [dataset[index] for index in range(len(dataset))]

    assert len(samples) == 128
    assert sum(len(sample.targets) for sample in samples) == 929
    for start in range(0, 128, 8):
        assert len({sample.image.shape for sample in samples[start : start + 8]}) == 1
