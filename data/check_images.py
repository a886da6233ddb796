"""Network inputs on which two forms of a network are compared: images and noise."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from data.image_file import read_image
from utils.letterbox import Letterbox, network_input
from utils.structures import FloatArray, ImageArray, ImageRecord

NUM_IMAGES = 4
SEED = 0


def check_inputs(
    sizes_hw: Sequence[tuple[int, int]], records: Sequence[ImageRecord] = ()
) -> list[FloatArray]:
    """For each size, a batch of letterboxed images and one of noise, (B, 3, H, W) RGB in 0-1.

    Args:
        sizes_hw: heights and widths of the network input.
        records: images of the user's data set; smooth random ones take the place of missing ones.
    """
    rng = np.random.default_rng(SEED)
    images = [read_image(record.path) for record in records[:NUM_IMAGES]]
    while len(images) < NUM_IMAGES:
        coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
        smooth = cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_CUBIC)
        images.append(smooth.astype(np.uint8, copy=False))
    inputs = []
    for height, width in sizes_hw:
        inputs.append(letterboxed(images, (height, width)))
        inputs.append(rng.random((1, 3, height, width), np.float32))
    return inputs


def letterboxed(images: Sequence[ImageArray], input_hw: tuple[int, int]) -> FloatArray:
    """Images as one batch of network inputs, (B, 3, H, W) in 0-1."""
    fitted = [
        Letterbox.fit((image.shape[0], image.shape[1]), input_hw).apply_image(image)
        for image in images
    ]
    return network_input(fitted)
