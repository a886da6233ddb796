from __future__ import annotations

import numpy as np
import pytest

from data.augment import make_mosaic, mix_up
from utils.structures import Targets

SIZE = 64
COLORS = (10, 60, 160, 210)


def tile(number, hw=(SIZE, SIZE)):
    """An image of one color, all of it an object."""
    box = np.array([[0, 0, hw[1], hw[0]]], np.float32)
    return np.full((*hw, 3), COLORS[number], np.uint8), Targets(box, np.array([number]))


@pytest.mark.parametrize(
    "hws",
    [
        [(64, 64)] * 4,
        # each of another size, none larger than the input
        [(64, 20), (33, 64), (64, 64), (10, 64)],
        # one pixel more: YOLOv5 rounds the shorter side up
        [(65, 64), (64, 65), (65, 65), (64, 64)],
    ],
)
def test_boxes_follow_the_pixels(hws):
    tiles = [tile(number, hw) for number, hw in enumerate(hws)]
    for seed in range(20):
        canvas, targets, _ = make_mosaic(tiles, SIZE, np.random.default_rng(seed))

        assert canvas.shape == (2 * SIZE, 2 * SIZE, 3) and canvas.dtype == np.uint8
        assert targets.class_ids.tolist() == [0, 1, 2, 3]
        for color, box in zip(COLORS, targets.boxes, strict=True):
            rows, columns = np.nonzero(canvas[..., 0] == color)
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_array_equal(box, found)
        covered = sum(np.prod(box[2:] - box[:2]) for box in targets.boxes)
        assert (canvas[..., 0] == 114).sum() == canvas[..., 0].size - covered


def test_the_corners_meet_half_an_input_from_every_edge():
    tiles = [tile(number) for number in range(4)]

    points = [
        make_mosaic(tiles, SIZE, np.random.default_rng(seed))[1].boxes[0, 2:] for seed in range(200)
    ]

    assert np.min(points) >= SIZE / 2 and np.max(points) <= 3 * SIZE / 2
    assert np.ptp(points) > 0.9 * SIZE


def test_what_is_cut_off_has_no_area_left():
    image, _ = tile(0)
    corner = Targets(np.array([[0, 0, 2, 2]], np.float32), np.array([0]))
    empty = (image, Targets.empty())
    rng = np.random.default_rng(0)
    while True:  # until the point is left of the tile's width
        state = rng.bit_generator.state
        if rng.uniform(SIZE / 2, SIZE * 1.5, 2)[0] < SIZE - 3:
            break
    rng.bit_generator.state = state

    _, targets, _ = make_mosaic([(image, corner), empty, empty, empty], SIZE, rng)

    assert targets.boxes[0, 0] == targets.boxes[0, 2] == 0


def test_images_without_objects():
    tiles = [(tile(number)[0], Targets.empty()) for number in range(4)]

    assert len(make_mosaic(tiles, SIZE, np.random.default_rng(0))[1]) == 0


def test_mixup_blends_about_half_and_keeps_all_targets():
    first, second = tile(0), tile(3)

    for seed in range(20):
        image, targets = mix_up(first, second, np.random.default_rng(seed))

        assert len(np.unique(image)) == 1
        assert COLORS[0] + 0.2 * 200 < image[0, 0, 0] < COLORS[0] + 0.8 * 200
        assert targets.class_ids.tolist() == [0, 3]
    assert len(mix_up((first[0], Targets.empty()), second, np.random.default_rng(0))[1]) == 1
