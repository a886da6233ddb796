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
        mosaic = make_mosaic(tiles, SIZE, np.random.default_rng(seed))
        canvas, targets = mosaic.canvas(), mosaic.targets

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
        make_mosaic(tiles, SIZE, np.random.default_rng(seed)).targets.boxes[0, 2:]
        for seed in range(200)
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

    targets = make_mosaic([(image, corner), empty, empty, empty], SIZE, rng).targets

    assert targets.boxes[0, 0] == targets.boxes[0, 2] == 0


UPRIGHT = MapRanges(degrees=0, translate=0.2, scale=0.6, shear=0, perspective=0)


def upright_mosaics(tiles, output_hw, count=40):
    """Mosaics of these tiles, and a map for each."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        mosaic = make_mosaic(tiles, SIZE, rng)
        affine = AffineMap.draw(mosaic.hw, output_hw, UPRIGHT, rng)
        assert affine.is_upright
        yield mosaic, affine


@pytest.mark.parametrize("hws", [[(64, 64)] * 4, [(64, 20), (33, 64), (64, 64), (10, 64)]])
def test_tiles_go_where_the_canvas_would_take_them(hws):
    """Half a pixel away at most, and half a pixel of the output: ramps of gray tell where."""
    ramps = []
    for height, width in hws:
        rows, columns = np.mgrid[:height, :width]
        image = np.stack([3 * columns, 3 * rows, np.full((height, width), 7)], 2)
        ramps.append((image.astype(np.uint8), Targets.empty()))
    for mosaic, affine in upright_mosaics(ramps, (SIZE, 48)):
        flat = np.zeros(mosaic.hw, np.uint8)
        for number, tile in enumerate(mosaic.tiles, 1):
            x1, y1, x2, y2 = tile.shown(mosaic.side)
            flat[y1:y2, x1:x2] = number
        around = np.ones((5, 5), np.uint8)
        one_tile = (cv2.erode(flat, around) == cv2.dilate(flat, around)).astype(np.uint8)
        shown = affine.warp(np.repeat((one_tile * flat)[..., None], 3, 2))[..., 0]
        inside = (affine.warp(np.repeat(one_tile[..., None], 3, 2))[..., 0] == 1) & (shown > 0)

        image, _ = mosaic.warp(affine)

        difference = np.abs(image.astype(int) - affine.warp(mosaic.canvas()))[inside]
        assert inside.mean() > 0.1
        half = 3 * max(0.5, 0.5 / affine.scale) + 1  # of a pixel; and a level by rounding
        assert difference[:, :2].max() <= half
        assert difference[:, 2].max() == 0


@pytest.mark.parametrize("hw", [(64, 64), (33, 50), (10, 64)])
def test_boxes_go_exactly_with_their_tiles(hw):
    """The edges of a bright object are where its box says: within a hundredth of a level."""
    height, width = hw
    x1, y1, x2, y2 = width // 4, height // 4, width // 2 + 3, height // 2 + 3
    image = np.zeros((*hw, 3), np.uint8)
    image[y1:y2, x1:x2] = 200
    labelled = image, Targets(np.array([[x1, y1, x2, y2]], np.float32), np.array([1]))
    checked = 0
    for mosaic, affine in upright_mosaics([labelled] * 4, (SIZE, SIZE)):
        output, targets = mosaic.warp(affine)
        for box in targets.boxes:
            if box.min() < 3 or box.max() > SIZE - 3:
                continue
            left, top, right, bottom = (round(float(edge)) for edge in box)
            part = output[top - 2 : bottom + 2, left - 2 : right + 2, 0] / 200
            if (part[[0, -1]].max(), part[:, [0, -1]].max()) != (0, 0):
                continue  # another object is near
            row, column = part[len(part) // 2], part[:, part.shape[1] // 2]
            checked += 1
            # What blurs an edge keeps the sum of its profile.
            assert abs(row.sum() - (box[2] - box[0])) < 0.6 * max(1, affine.scale)
            assert abs(column.sum() - (box[3] - box[1])) < 0.6 * max(1, affine.scale)
            middle = left - 2 + 0.5 + (row * np.arange(len(row))).sum() / row.sum()
            assert abs(middle - (box[0] + box[2]) / 2) < 0.5
    assert checked > 10


def test_a_map_by_whole_pixels_copies_them():
    tiles = [(noise((SIZE, SIZE), number), Targets.empty()) for number in range(4)]
    mosaic = make_mosaic(tiles, SIZE, np.random.default_rng(0))
    matrix = np.array([[1, 0, -30], [0, 1, -41], [0, 0, 1]], np.float64)

    image, _ = mosaic.warp(AffineMap(matrix, 1.0, (SIZE, SIZE)))

    canvas = mosaic.canvas()
    np.testing.assert_array_equal(image, canvas[41 : 41 + SIZE, 30 : 30 + SIZE])


def test_objects_are_dropped_as_by_the_map_of_the_canvas():
    """The same objects stay, but for those at the limits, with boxes half a pixel apart at most."""
    rng = np.random.default_rng(3)
    tiles = []
    for number in range(4):
        corner = rng.uniform(0, 50, (12, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(1, 14, (12, 2))], 1).clip(0, SIZE)
        ids = np.arange(12) + 12 * number
        tiles.append((noise((SIZE, SIZE), number), Targets(boxes.astype(np.float32), ids)))
    same, other = 0, 0
    for mosaic, affine in upright_mosaics(tiles, (SIZE, 48)):
        _, ours = mosaic.warp(affine)
        theirs = affine.move(mosaic.targets)
        both, first, second = np.intersect1d(ours.class_ids, theirs.class_ids, return_indices=True)
        same += len(both)
        other += len(ours) + len(theirs) - 2 * len(both)
        distance = np.abs(ours.boxes[first] - theirs.boxes[second])
        assert not len(both) or distance.max() <= 0.5 * max(1, affine.scale) + 1e-3
    assert same > 300 and other < 0.05 * same


def test_each_pixel_is_of_the_tile_that_its_middle_comes_from():
    tiles = [tile(number) for number in range(4)]
    for mosaic, affine in upright_mosaics(tiles, (48, SIZE)):
        rows, columns = np.mgrid[:48, :SIZE] + 0.5
        scale, canvas = affine.matrix[0, 0], mosaic.canvas()
        x = np.floor((columns - affine.matrix[0, 2]) / scale).astype(int)
        y = np.floor((rows - affine.matrix[1, 2]) / scale).astype(int)
        covered = (x >= 0) & (y >= 0) & (x < 2 * SIZE) & (y < 2 * SIZE)
        expected = np.full((48, SIZE), 114)
        expected[covered] = canvas[y[covered], x[covered], 0]
        np.testing.assert_array_equal(mosaic.warp(affine)[0][..., 0], expected)


@pytest.mark.parametrize("name", ["degrees", "shear", "perspective"])
def test_other_maps_need_the_canvas(name):
    strength = {"degrees": 10, "shear": 10, "perspective": 0.001}[name]
    ranges = MapRanges(**{"degrees": 0, "translate": 0.1, "scale": 0.5, "shear": 0,
                          "perspective": 0, name: strength})  # fmt: skip
    rng = np.random.default_rng(0)
    mosaic = make_mosaic([tile(number) for number in range(4)], SIZE, rng)
    affine = AffineMap.draw(mosaic.hw, (SIZE, SIZE), ranges, rng)

    image, targets = mosaic.warp(affine)

    assert not affine.is_upright
    np.testing.assert_array_equal(image, affine.warp(mosaic.canvas()))
    np.testing.assert_array_equal(targets.boxes, affine.move(mosaic.targets).boxes)


def test_images_without_objects():
    tiles = [(tile(number)[0], Targets.empty()) for number in range(4)]

    assert len(make_mosaic(tiles, SIZE, np.random.default_rng(0)).targets) == 0
    for mosaic, affine in upright_mosaics(tiles, (SIZE, SIZE), count=5):
        assert len(mosaic.warp(affine)[1]) == 0


def test_mixup_blends_about_half_and_keeps_all_targets():
    first, second = tile(0), tile(3)

    for seed in range(20):
        image, targets = mix_up(first, second, np.random.default_rng(seed))

        assert len(np.unique(image)) == 1
        assert COLORS[0] + 0.2 * 200 < image[0, 0, 0] < COLORS[0] + 0.8 * 200
        assert targets.class_ids.tolist() == [0, 3]
    assert len(mix_up((first[0], Targets.empty()), second, np.random.default_rng(0))[1]) == 1
