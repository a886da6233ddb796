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
        half: a copy of it computes in float16, on float16 images; boxes are decoded in float32.
    """

    def __init__(self, detector: Detector, *, half: bool = False) -> None:
        super().__init__()
        self.detector = copy.deepcopy(detector).half() if half else detector
        self.coder = BoxCoder.of(detector)

    def forward(self, images: Tensor) -> Tensor:
        """The decoded predictions of a batch, YOLOv5's `output0`."""
        return self.coder.decode(self.detector(images))
