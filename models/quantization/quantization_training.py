"""Quantization-aware training: fine-tunes an 8-bit file to match its float32 network.

No labels are needed: the float32 network is the teacher.

Shapes: B images, A anchors of a cell, C classes, H W cells.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from models.losses.distillation import DistillationLoss
from models.losses.loss import DetectionLoss, LossConfig
from models.network.box_coder import BoxCoder
from models.network.detector import Detector
from models.quantization.quantized_graph import QuantizedGraph
from utils.engine.optim import clip_gradients
from utils.errors import DivergedError
from utils.structures import FloatArray

logger = logging.getLogger(__name__)


class Batches(Protocol):
    """Batches (B, 3, H, W) in 0-1 that can be iterated several times, in any order."""

    def __iter__(self) -> Iterator[FloatArray | Tensor]:
        """Start an epoch."""

    def __len__(self) -> int:
        """The number of batches per epoch."""


@dataclass(frozen=True, slots=True)
class QuantizationTraining:
    """How an 8-bit network is trained.

    Attributes:
        epochs: passes over the batches.
        lr: Adam's learning rate of weights and biases at the start; a cosine brings it to 0.
        scale_lr: that of the logarithms of scales.
    """

    epochs: int = 3
    lr: float = 3e-5
    scale_lr: float = 1e-3


def train_quantized(
    graph: QuantizedGraph, teacher: Detector, batches: Batches, settings: QuantizationTraining
) -> tuple[float, ...]:
    """Train an 8-bit network in place, on the device where it is.

    Args:
        graph: the network.
        teacher: the float32 network it was made from, in deploy form and eval mode, on the same
            device.
        batches: images as in deployment, letterboxed the same way; mirroring is fine.
        settings: how long and how fast.

    Returns:
        The mean loss of each epoch. Its minimum is not 0 but the entropy of the teacher's scores.

    Raises:
        DivergedError: a loss is not a number.
    """
    optimizer, losses = _optimizer(graph, settings), []
    steps = max(settings.epochs * len(batches), 1)
    schedule = LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)
    device = next(graph.parameters()).device
    for epoch in range(settings.epochs):
        total, count = torch.zeros((), device=device), 0
        for batch in batches:
            images = torch.as_tensor(batch, device=device)
            taught = teacher_loss(teacher, max(images.shape[2:]))
            loss = taught.distance(graph(images), images)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            clip_gradients(graph)
            optimizer.step()
            schedule.step()
            total, count = total + loss.detach(), count + 1
        losses.append(float(total) / max(count, 1))
        if not math.isfinite(losses[-1]):
            raise DivergedError(f"loss of 8-bit training is {losses[-1]}; lower the learning rate")
        logger.info("8-bit epoch %d/%d: loss %.4f", epoch + 1, settings.epochs, losses[-1])
    return tuple(losses)


def teacher_loss(teacher: Detector, image_size: int) -> DistillationLoss:
    """The distance from a teacher's raw predictions.

    Args:
        teacher: the float32 network.
        image_size: the longer side of the images, in pixels.
    """
    coder, classes = BoxCoder.of(teacher), teacher.spec.num_classes
    labels = DetectionLoss(coder, classes, image_size, LossConfig())
    return DistillationLoss(labels, teacher, gain=1.0)


def _optimizer(graph: QuantizedGraph, settings: QuantizationTraining) -> Adam:
    """Adam over weights, biases and scales; the gradients of constants stay None."""
    numbers = [each for each in graph.numbers.parameters() if each.requires_grad]
    scales = [each for each in graph.quantizers.parameters() if each.requires_grad]
    return Adam(
        [{"params": numbers, "lr": settings.lr}, {"params": scales, "lr": settings.scale_lr}]
    )
