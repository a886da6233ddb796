"""Training images at a different size from batch to batch."""

from __future__ import annotations

import math

import numpy as np
import torch.nn.functional as F
from torch import Tensor


class MultiScale:
    """Resizes batches to between 0.5 and 1.5 times the training size, in multiples of the stride.

    The size depends on (seed, batch number) alone.

    Args:
        image_size: the nominal side in pixels.
        stride: largest stride of the network.
        seed: of the random sizes.
    """

    def __init__(self, image_size: int, stride: int, seed: int) -> None:
        self.image_size, self.stride, self.seed = image_size, stride, seed

    @property
    def largest(self) -> int:
        """The longest side that can be drawn."""
        return (self.image_size * 3 // 2 + self.stride - 1) // self.stride * self.stride

    def __call__(self, images: Tensor, batch_number: int) -> Tensor:
        """(B, 3, H, W) floats -> the same images, longer side at the size drawn."""
        rng = np.random.default_rng([self.seed, batch_number])
        low, high = self.image_size // 2, self.image_size * 3 // 2 + self.stride
        side = max(int(rng.integers(low, high)) // self.stride, 1) * self.stride
        factor = side / max(images.shape[2:])
        if factor == 1:
            return images
        height, width = (
            math.ceil(length * factor / self.stride) * self.stride for length in images.shape[2:]
        )
        return F.interpolate(images, size=(height, width), mode="bilinear", align_corners=False)
