from __future__ import annotations

import cv2
import numpy as np
import pytest

from data.affine import AffineMap, MapRanges
from data.augment import mix_up
from data.mosaic import make_mosaic
from tests.unit.data.builders import noise
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
        mosaic, targets = make_mosaic(tiles, SIZE, np.random.default_rng(seed))
        canvas = mosaic.canvas()

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

    _, targets = make_mosaic([(image, corner), empty, empty, empty], SIZE, rng)

    assert targets.boxes[0, 0] == targets.boxes[0, 2] == 0


UPRIGHT = MapRanges(degrees=0, translate=0.2, scale=0.6, shear=0, perspective=0)


def smooth(number, hw):
    """An image without sharp edges, by which interpolations could differ."""
    return np.asarray(cv2.GaussianBlur(noise(hw, number), (0, 0), 3), np.uint8)


@pytest.mark.parametrize("hws", [[(64, 64)] * 4, [(64, 20), (33, 64), (64, 64), (10, 64)]])
def test_tiles_go_where_the_canvas_would_take_them(hws):
    """Pixel for pixel, but for those that the canvas blends out of two tiles or of one and gray."""
    tiles = [(smooth(number, hw), Targets.empty()) for number, hw in enumerate(hws)]
    for seed in range(40):
        rng = np.random.default_rng(seed)
        mosaic, _ = make_mosaic(tiles, SIZE, rng)
        affine = AffineMap.draw(mosaic.hw, (SIZE, 48), UPRIGHT, rng)
        assert affine.is_upright
        canvas, flat = mosaic.canvas(), np.zeros(mosaic.hw, np.uint8)
        for number, tile in enumerate(mosaic.tiles, 1):
            x1, y1, x2, y2 = tile.shown(mosaic.side)
            flat[y1:y2, x1:x2] = number
        around = np.ones((5, 5), np.uint8)
        one_tile = (cv2.erode(flat, around) == cv2.dilate(flat, around)).astype(np.uint8)
        inside = affine.warp(np.repeat(one_tile[..., None], 3, 2))[..., 0] == 1
        difference = np.abs(mosaic.warp(affine).astype(int) - affine.warp(canvas))
        assert inside.mean() > 0.3
        assert difference[inside].max() <= 1  # their coordinates are rounded one by one


def test_each_pixel_is_of_the_tile_that_its_middle_comes_from():
    tiles = [tile(number) for number in range(4)]
    for seed in range(40):
        rng = np.random.default_rng(seed)
        mosaic, _ = make_mosaic(tiles, SIZE, rng)
        affine = AffineMap.draw(mosaic.hw, (48, SIZE), UPRIGHT, rng)
        rows, columns = np.mgrid[:48, :SIZE] + 0.5
        scale, canvas = affine.matrix[0, 0], mosaic.canvas()
        x = np.floor((columns - affine.matrix[0, 2]) / scale).astype(int)
        y = np.floor((rows - affine.matrix[1, 2]) / scale).astype(int)
        covered = (x >= 0) & (y >= 0) & (x < 2 * SIZE) & (y < 2 * SIZE)
        expected = np.full((48, SIZE), 114)
        expected[covered] = canvas[y[covered], x[covered], 0]
        np.testing.assert_array_equal(mosaic.warp(affine)[..., 0], expected)


@pytest.mark.parametrize("name", ["degrees", "shear", "perspective"])
def test_other_maps_need_the_canvas(name):
    strength = {"degrees": 10, "shear": 10, "perspective": 0.001}[name]
    ranges = MapRanges(**{"degrees": 0, "translate": 0.1, "scale": 0.5, "shear": 0,
                          "perspective": 0, name: strength})  # fmt: skip
    rng = np.random.default_rng(0)
    mosaic, _ = make_mosaic([tile(number) for number in range(4)], SIZE, rng)
    affine = AffineMap.draw(mosaic.hw, (SIZE, SIZE), ranges, rng)

    assert not affine.is_upright
    np.testing.assert_array_equal(mosaic.warp(affine), affine.warp(mosaic.canvas()))


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
