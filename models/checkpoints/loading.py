"""Reads weights files and builds their networks."""

from __future__ import annotations

from pathlib import Path

import torch

from models.checkpoints.yolov5_weights import read_yolov5
from models.network.detector import Detector, build_model
from models.network.model_spec import ModelSpec
from utils.checkpoint import Checkpoint, is_native, load_checkpoint
from utils.engine.ema import ModelEMA
from utils.errors import CheckpointError


def read_weights(path: str | Path) -> Checkpoint:
    """Read our checkpoint or a YOLOv5 `.pt`; neither is executed.

    Raises:
        CheckpointError: missing, unreadable, unsafe, or of layers this project does not have.
    """
    path = Path(path)
    return load_checkpoint(path) if is_native(path) else read_yolov5(path)


def build_from_checkpoint(checkpoint: Checkpoint, *, averaged: bool = True) -> Detector:
    """The network a checkpoint describes, in eval mode, float32.

    Args:
        checkpoint: of either form.
        averaged: load the averaged (EMA) weights where there are any, which score best; False
            loads those that training resumes from.

    Raises:
        CheckpointError: the weights do not fit the architecture.
    """
    spec = ModelSpec.from_yaml(checkpoint.spec, "checkpoint")
    model = build_model(spec, form=checkpoint.form)
    try:
        model.load_state_dict(checkpoint.best_weights if averaged else checkpoint.weights)
    except RuntimeError as error:
        raise CheckpointError(f"checkpoint: weights do not fit the architecture: {error}") from None
    return model.float().eval()


def resumed_model(
    checkpoint: Checkpoint, device: torch.device
) -> tuple[Detector, ModelEMA[Detector]]:
    """The network that training resumes from, and its EMA, on a device.

    Raises:
        CheckpointError: the weights do not fit the architecture.
    """
    model = build_from_checkpoint(checkpoint, averaged=False).to(device)
    return model, ModelEMA(build_from_checkpoint(checkpoint).to(device))
