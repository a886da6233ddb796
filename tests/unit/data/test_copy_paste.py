"""Pasted objects are where their boxes say, and hide little of what was there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data.augment import AugmentConfig
from data.copy_paste import MAX_HIDDEN, copy_paste
from data.mosaic import make_mosaic
from data.train_dataset import SampleKey, TrainDataset
from tests.unit.data.builders import record, write_image
from utils.structures import Targets

SIDE = 60


def square(x: int, y: int, side: int):
    return (np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], np.float32),)


def scene(*positions: tuple[int, int, int]):
    """Bright squares on black, each with its outline."""
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    for number, (x, y, side) in enumerate(positions):
        image[y : y + side, x : x + side] = 100 + number
    boxes = np.array([[x, y, x + side, y + side] for x, y, side in positions], np.float32)
    targets = Targets(boxes.reshape(-1, 4), np.arange(len(positions)))
    return image, targets, [square(*position) for position in positions]


def test_an_object_appears_again_at_the_mirrored_position():
    image, targets, outlines = scene((5, 10, 12))

    pasted, both = copy_paste(image, targets, outlines, 1.0, np.random.default_rng(0))

    assert both.boxes.tolist() == [[5, 10, 17, 22], [43, 10, 55, 22]]
    assert both.class_ids.tolist() == [0, 0]
    assert (pasted[10:22, 43:55] == 100).all()
    assert (image[10:22, 43:55] == 0).all()  # the given image is not written to
    assert np.array_equal(pasted[:, :42], image[:, :42])


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(3, 19)), max_size=6),
    st.integers(0, 9),
)
def test_nothing_is_hidden_too_much_and_nothing_is_lost(positions, seed):
    image, targets, outlines = scene(*positions)

    pasted, all_of_them = copy_paste(image, targets, outlines, 0.7, np.random.default_rng(seed))

    before, new = all_of_them.boxes[: len(targets)], all_of_them.boxes[len(targets) :]
    assert np.array_equal(before, targets.boxes)
    for box in new:  # each is the mirror image of an object
        assert [SIDE - box[2], box[1], SIDE - box[0], box[3]] in targets.boxes.tolist()
        for other in before:
            x, y = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
            area = (other[2:] - other[:2]).prod()
            assert max(x, 0) * max(y, 0) < MAX_HIDDEN * area
    if not len(new):
        assert pasted is image


def test_objects_without_an_outline_or_without_area_are_not_pasted():
    image, targets, outlines = scene((5, 10, 12), (30, 40, 10))
    cut_off = Targets(np.array([[5, 10, 17, 22], [0, 40, 0, 50]], np.float32), np.array([0, 1]))

    pasted, after = copy_paste(image, cut_off, [(), outlines[1]], 1.0, np.random.default_rng(0))

    assert pasted is image
    assert after is cut_off
    assert copy_paste(image, targets, [(), ()], 1.0, np.random.default_rng(0))[1] is targets
    empty = copy_paste(image, Targets.empty(), [], 1.0, np.random.default_rng(0))
    assert len(empty[1]) == 0


def test_a_mosaic_has_the_pasted_objects_too(tmp_path):
    path = write_image(tmp_path / "a.png", (64, 64))
    item = record(path, (64, 64), [[4, 8, 20, 24]], [2])
    outlined = type(item)(
        *(getattr(item, name) for name in item.__slots__[:-1]), outlines=(square(4, 8, 16),)
    )
    strength = {"mosaic": 1.0, "scale": 0.0}

    def objects(probability: float) -> int:
        augment = AugmentConfig.only(**strength, copy_paste=probability)
        dataset = TrainDataset([outlined], 64, augment, seed=3)
        return sum(len(dataset[SampleKey(epoch, 0)].targets) for epoch in range(20))

    assert objects(1.0) > 1.5 * objects(0.0)


@given(st.integers(0, 50))
def test_outlines_lie_where_their_boxes_do_in_a_mosaic(seed):
    """Images of other sizes than the input, so that outlines are scaled as well as moved."""
    image = np.zeros((40, 80, 3), np.uint8)
    item = record(Path("a.png"), (40, 80), [[10, 5, 50, 30]], [0])
    corners = np.array([[10, 5], [50, 5], [50, 30], [10, 30]], np.float32)
    item = dataclasses.replace(item, outlines=((corners,),))
    dataset = TrainDataset([item], 64, AugmentConfig.only(mosaic=1.0, copy_paste=1.0), seed=0)
    resized = cv2.resize(image, (64, 32))
    targets = Targets(item.targets.boxes * np.float32(0.8), item.targets.class_ids)
    mosaic = make_mosaic([(resized, targets)] * 4, 64, np.random.default_rng(seed))
    for box, tile in zip(mosaic.targets.boxes, mosaic.tiles, strict=True):
        ((polygon,),) = dataset._outlines(0, tile)
        bounds = np.concatenate([polygon.min(0), polygon.max(0)]).clip(0, 128)
        np.testing.assert_allclose(bounds, box, atol=1e-4)


def test_pasted_objects_do_not_hide_each_other():
    """Two overlapping objects: the mirror image of the second would hide that of the first."""
    image, targets, outlines = scene((4, 10, 12), (6, 11, 12))
    _, both = copy_paste(image, targets, outlines, 1.0, np.random.default_rng(0))
    assert len(both) == 3
