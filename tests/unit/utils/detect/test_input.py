from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from utils.detect.input import InputSize, as_network_input, prepare_batches
from utils.frame import Frame, Skipped
from utils.timing import StageClock

SIZE_CASES = [
    # wanted, fixed by the file, stride -> limit, stride, message
    ((640, 640), (None, None), 32, (640, 640), 32, None),  # any multiple will do
    (
        (600, 641),
        (None, None),
        32,
        (608, 672),
        32,
        "--imgsz 600x641: sizes must be multiples of 32; using 608x672",
    ),
    ((320, 320), (320, 320), 32, (320, 320), None, None),  # what the file takes
    (
        (640, 640),
        (320, 416),
        32,
        (320, 416),
        None,
        "--imgsz 640x640: this file takes 320x416 only; using that",
    ),
    ((640, 640), (640, None), 32, (640, 640), None, None),  # one side fixed: no rectangles
]


@pytest.mark.parametrize(("wanted", "fixed", "stride", "limit", "pad", "warning"), SIZE_CASES)
def test_choose(caplog, wanted, fixed, stride, limit, pad, warning):
    with caplog.at_level(logging.INFO):
        size = InputSize.choose(wanted, fixed, stride)
    assert size == InputSize(limit, pad)
    assert caplog.messages == ([] if warning is None else [warning])


def test_images_are_padded_to_the_stride_or_in_full():
    assert InputSize((64, 64), 32).letterbox((20, 64)).input_hw == (32, 64)
    assert InputSize((64, 64), None).letterbox((20, 64)).input_hw == (64, 64)


def frame(height, width, value=0):
    image = np.full((height, width, 3), value, np.uint8)
    return Frame(image, "x", Path("x"), 1, 1, 1, 1, None, False)


def test_batches_hold_images_of_one_input_size():
    skipped = Skipped(Path("y"), "broken")
    items = [frame(64, 64), frame(64, 64), frame(64, 64), frame(20, 64), skipped, frame(64, 64)]
    clock = StageClock(("decode", "preprocess"))
    found = [
        item if isinstance(item, Skipped) else [one.pixels.shape[:2] for one in item]
        for item in prepare_batches(items, InputSize((64, 64), 32), 2, clock)
    ]
    square = (64, 64)
    assert found == [[square, square], [square], skipped, [(32, 64)], [square]]
    assert clock.seconds["preprocess"] > 0


def test_no_frames_no_batches():
    clock = StageClock(("decode", "preprocess"))
    assert list(prepare_batches([], InputSize((64, 64), 32), 2, clock)) == []


def test_network_input():
    clock = StageClock(("decode", "preprocess"))
    items = [frame(32, 32, 255), frame(32, 32, 51)]
    (batch,) = prepare_batches(items, InputSize((32, 32), 32), 2, clock)
    images = as_network_input(batch)
    assert images.shape == (2, 3, 32, 32) and images.dtype == np.float32
    assert images.flags.c_contiguous
    assert images[0].min() == 1 and images[1].max() == np.float32(0.2)
