"""Console lines about a network before training starts."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from models.conversion.deploy import block_counts
from models.network.complexity import network_gflops
from models.network.detector import Detector, count_parameters
from utils.device import describe_device

logger = logging.getLogger(__name__)


def log_start(model: Detector, device: torch.device, folder: Path, first_epoch: int) -> None:
    """Log parameters, GFLOPs and blocks of the network, the device and the run folder."""
    blocks = ", ".join(f"{count} {name}" for name, count in block_counts(model).items())
    logger.info(
        "%s: %s parameters, %.2f GFLOPs at 640, %s, %s",
        model.spec.name,
        f"{count_parameters(model):,}",
        network_gflops(model),
        blocks,
        model.spec.activation,
    )
    logger.info("Training on %s, %s", describe_device(device), folder)
    if first_epoch > 0:
        logger.info("Continuing with epoch %d", first_epoch + 1)
