from __future__ import annotations

import torch

from utils.engine.multi_scale import MultiScale

IMAGES = torch.rand(2, 3, 64, 96)


def test_sizes():
    resize = MultiScale(96, 32, seed=0)
    sizes = [tuple(resize(IMAGES, number).shape[2:]) for number in range(60)]
    assert all(height % 32 == width % 32 == 0 for height, width in sizes)
    longest = {max(size) for size in sizes}
    assert longest <= {32, 64, 96, 128, 160}
    assert len(longest) >= 4
    assert min(longest) <= 64 and max(longest) >= 128


def test_the_size_depends_on_seed_and_batch_alone():
    first = [MultiScale(96, 32, seed=0)(IMAGES, n).shape for n in range(20)]
    again = [MultiScale(96, 32, seed=0)(IMAGES, n).shape for n in reversed(range(20))]
    other = [MultiScale(96, 32, seed=1)(IMAGES, n).shape for n in range(20)]
    assert first == again[::-1]
    assert first != other


def test_images_keep_their_values():
    flat = torch.full((1, 3, 64, 64), 0.25)
    for number in range(5):
        resized = MultiScale(64, 32, seed=0)(flat, number)
        assert torch.allclose(resized, torch.tensor(0.25))


def test_the_nominal_size_is_left_alone():
    resize = MultiScale(96, 32, seed=0)
    same = [n for n in range(60) if resize(IMAGES, n).shape == IMAGES.shape]
    assert same and all(resize(IMAGES, n) is IMAGES for n in same)


def test_no_size_is_below_the_stride():
    sizes = {max(MultiScale(32, 32, seed=0)(IMAGES, number).shape[2:]) for number in range(60)}
    assert sizes == {32, 64}
