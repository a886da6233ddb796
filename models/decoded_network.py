"""A network that ends in boxes instead of raw predictions, for files that decode by themselves."""

from __future__ import annotations

from torch import Tensor, nn

from models.box_coder import BoxCoder
from models.detector import Detector


class DecodedNetwork(nn.Module):
    """(B, 3, H, W) in 0-1 -> (B, N, 5 + C): cx cy w h in pixels, objectness, class scores."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector
        self.coder = BoxCoder.of(detector)

    def forward(self, images: Tensor) -> Tensor:
        """The decoded predictions of a batch, YOLOv5's `output0`."""
        return self.coder.decode(self.detector(images))
