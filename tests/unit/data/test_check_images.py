from __future__ import annotations

import numpy as np

from data.check_images import NUM_IMAGES, check_inputs


def test_images_and_noise_of_each_size():
    inputs = check_inputs([(64, 96), (32, 32)])
    assert [images.shape for images in inputs] == [
        (NUM_IMAGES, 3, 64, 96), (1, 3, 64, 96), (NUM_IMAGES, 3, 32, 32), (1, 3, 32, 32),
    ]  # fmt: skip
    for images in inputs:
        assert images.dtype == np.float32 and 0 <= images.min() < images.max() <= 1


def test_images_are_smooth_and_not_flat_unlike_noise():
    smooth, noise = check_inputs([(240, 320)])

    def step(images: np.ndarray) -> float:
        """Mean difference of neighbours, against the spread of values."""
        return float(np.abs(np.diff(images, axis=3)).mean() / images.std())

    assert step(smooth) < 0.1 < 1 < step(noise)
    assert min(image.std() for image in smooth) > 0.05


def test_the_same_ones_each_time():
    for one, other in zip(check_inputs([(64, 64)]), check_inputs([(64, 64)]), strict=True):
        np.testing.assert_array_equal(one, other)
