"""The numpy decoding of raw heads and the torch one are the same function."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.network.box_coder import BoxCoder
from models.runtimes.raw_heads import RawHeads

ANCHORS = ((10.0, 13.0, 16.0, 30.0), (30.0, 61.0, 62.0, 45.0))
STRIDES = (8, 16)


@pytest.mark.parametrize("num_classes", [1, 3])
@pytest.mark.parametrize("batch", [1, 2])
def test_both_decode_alike(num_classes, batch):
    rng = np.random.default_rng(batch + num_classes)
    channels = 2 * (5 + num_classes)
    maps = [
        rng.normal(0, 6, (batch, channels, height, width)).astype(np.float32)
        for height, width in ((6, 10), (3, 5))
    ]
    pairs = tuple(tuple(zip(level[::2], level[1::2], strict=True)) for level in ANCHORS)
    expected = BoxCoder(ANCHORS, STRIDES).decode([torch.from_numpy(level) for level in maps])
    logits = RawHeads(pairs, STRIDES).decode(maps)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    probabilities = [torch.from_numpy(level).sigmoid().numpy() for level in maps]
    done = RawHeads(pairs, STRIDES, sigmoid_done=True).decode(probabilities)
    np.testing.assert_allclose(done, expected, rtol=1e-5, atol=1e-5)


def test_extreme_logits():
    maps = [np.full((1, 14, 1, 1), value, np.float32) for value in (-200, 200)]
    pairs = (((4.0, 4.0), (8.0, 8.0)),) * 2
    decoded = RawHeads(pairs, (8, 16)).decode(maps)
    assert np.isfinite(decoded).all()
    assert decoded[0, 0].tolist() == [-4, -4, 0, 0, 0, 0, 0]
    assert decoded[0, -1].tolist() == [24, 24, 32, 32, 1, 1, 1]
