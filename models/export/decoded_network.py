"""A network that ends in boxes instead of raw predictions, for files that decode by themselves."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from models.network.box_coder import BoxCoder
from models.network.detector import Detector


class DecodedNetwork(nn.Module):
    """(B, 3, H, W) in 0-1 -> (B, N, 5 + C): cx cy w h in pixels, objectness, class scores.

    Args:
        detector: what ends in raw maps.
        half: a copy of it computes in float16, on float16 images. Boxes are decoded in float32:
            float16 has steps of half a pixel beyond 512.
    """

    def __init__(self, detector: Detector, *, half: bool = False) -> None:
        super().__init__()
        self.detector = copy.deepcopy(detector).half() if half else detector
        self.coder = BoxCoder.of(detector)
        self.half_maps = half

    def forward(self, images: Tensor) -> Tensor:
        """The decoded predictions of a batch, YOLOv5's `output0`."""
        maps = self.detector(images)
        return self.coder.decode([each.float() for each in maps] if self.half_maps else maps)
