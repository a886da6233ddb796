from __future__ import annotations

from pathlib import Path

import numpy as np

from utils.detect.input import prepare_batches
from utils.frame import Frame, Skipped
from utils.letterbox import InputSize
from utils.timing import StageClock


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
