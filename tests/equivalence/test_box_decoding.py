"""The torch decoding and the numpy one are held to one float64 reference, a box at a time."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from models.network.box_coder import BoxCoder
from models.runtimes.heads import RawMapDecoder

ANCHORS = (
    (10.0, 13.0, 16.0, 30.0, 33.0, 23.0),
    (30.0, 61.0, 62.0, 45.0, 59.0, 119.0),
    (116.0, 90.0, 156.0, 198.0, 373.0, 326.0),
    (436.0, 615.0, 739.0, 380.0, 925.0, 792.0),
)
PAIRS = tuple(tuple(zip(level[::2], level[1::2], strict=True)) for level in ANCHORS)
STRIDES = (8, 16, 32, 64)
GRIDS = ((7, 5), (4, 3), (2, 2), (1, 1))  # of an input whose sides are no multiples of 64
EXTREMES = (-200.0, -100.0, -88.0, -20.0, -1.0, -0.0, 0.0, 1e-30, 1.0, 20.0, 88.0, 100.0, 200.0)
CODER = BoxCoder(ANCHORS, STRIDES)


def reference(maps):
    """(B, N, 5 + C) float64: the specification of models/network/box_coder.py in Python floats."""
    rows = []
    for image in range(len(maps[0])):
        rows.append([])
        for level_map, anchors, stride in zip(maps, PAIRS, STRIDES, strict=True):
            _, channels, height, width = level_map.shape
            values = channels // len(anchors)
            cells = itertools.product(range(len(anchors)), range(height), range(width))
            for anchor, row, column in cells:
                logits = level_map[image, anchor * values : (anchor + 1) * values, row, column]
                p = [sigmoid(float(logit)) for logit in logits]
                centre = (2 * p[0] - 0.5 + column) * stride, (2 * p[1] - 0.5 + row) * stride
                size = (4 * p[2] ** 2 * anchors[anchor][0], 4 * p[3] ** 2 * anchors[anchor][1])
                rows[-1].append([*centre, *size, *p[4:]])
    return np.array(rows)


def sigmoid(logit):
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def maps_of(seed, batch=2, num_classes=3, dtype=np.float32):
    """Logits as trained networks have them, with extreme ones among them."""
    rng = np.random.default_rng(seed)
    maps = []
    for (height, width), anchors in zip(GRIDS, PAIRS, strict=True):
        shape = (batch, len(anchors) * (5 + num_classes), height, width)
        level_map = rng.normal(0, 6, shape)
        extreme = rng.random(shape) < 0.2
        level_map[extreme] = rng.choice(EXTREMES, extreme.sum())
        maps.append(level_map.astype(dtype))
    return maps


def assert_close(decoded, expected):
    """To float32's precision: a thousandth of a pixel, 1e-6 of a probability."""
    assert decoded.dtype == np.float32
    assert decoded.shape == expected.shape
    np.testing.assert_allclose(decoded[..., :4], expected[..., :4], rtol=2e-6, atol=1e-4)
    np.testing.assert_allclose(decoded[..., 4:], expected[..., 4:], rtol=2e-6, atol=1e-30)


def in_torch(maps):
    return CODER.decode([torch.from_numpy(level_map) for level_map in maps]).numpy()


@pytest.mark.parametrize("num_classes", [1, 3])
@pytest.mark.parametrize("batch", [1, 2])
def test_logits(num_classes, batch):
    maps = maps_of(num_classes + batch, batch, num_classes)
    expected = reference(maps)
    assert_close(in_torch(maps), expected)
    assert_close(RawMapDecoder(PAIRS, STRIDES).decode(maps), expected)


def test_torch_in_float64_is_the_specification():
    maps = maps_of(0, dtype=np.float64)
    np.testing.assert_allclose(in_torch(maps), reference(maps), rtol=1e-13, atol=1e-13)


def test_probabilities():
    maps = maps_of(3)
    probabilities = [torch.from_numpy(level_map).sigmoid().numpy() for level_map in maps]
    decoder = RawMapDecoder(PAIRS, STRIDES, sigmoid_done=True)
    assert_close(decoder.decode(probabilities), reference(maps))


@pytest.mark.parametrize("sigmoid_done", [False, True])
def test_rows_last_is_another_layout_of_the_same(sigmoid_done):
    maps = [np.abs(level_map) % 1 for level_map in maps_of(4)]
    last = [np.ascontiguousarray(level_map.transpose(0, 2, 3, 1)) for level_map in maps]
    plain = RawMapDecoder(PAIRS, STRIDES, sigmoid_done).decode(maps)
    rows_last = RawMapDecoder(PAIRS, STRIDES, sigmoid_done, rows_last=True).decode(last)
    assert np.array_equal(plain, rows_last)


def test_no_images():
    maps = [level_map[:0] for level_map in maps_of(5)]
    for decoded in (in_torch(maps), RawMapDecoder(PAIRS, STRIDES).decode(maps)):
        assert decoded.shape == (0, 3 * (35 + 12 + 4 + 1), 8)


def test_what_is_given_is_not_changed():
    maps = maps_of(6)
    before = [level_map.copy() for level_map in maps]
    in_torch(maps)
    for sigmoid_done in (False, True):
        RawMapDecoder(PAIRS, STRIDES, sigmoid_done).decode(maps)
    assert all(np.array_equal(a, b) for a, b in zip(before, maps, strict=True))


def test_float16_maps_are_decoded_in_float32():
    """A 1280 px input: float16 has steps of a pixel beyond 1024, of half a pixel beyond 512."""
    rng = np.random.default_rng(7)
    sides = [1280 // stride for stride in STRIDES]
    maps = [rng.normal(0, 3, (1, 18, side, side)).astype(np.float16) for side in sides]
    wide = [level_map.astype(np.float32) for level_map in maps]
    decoder = RawMapDecoder(PAIRS, STRIDES)
    assert in_torch(maps).dtype == decoder.decode(maps).dtype == np.float32
    assert np.array_equal(in_torch(maps), in_torch(wide))
    assert np.array_equal(decoder.decode(maps), decoder.decode(wide))
