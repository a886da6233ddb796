"""Batch-norm with YOLOv5's hyper-parameters."""

from __future__ import annotations

from torch import nn

EPS = 1e-3  # YOLOv5 trains with these two instead of torch's 1e-5 and 0.1
MOMENTUM = 0.03


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch-norm over (B, channels, H, W) with EPS and MOMENTUM."""
    return nn.BatchNorm2d(channels, eps=EPS, momentum=MOMENTUM)
