"""Reads weights files and builds their networks."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from models.checkpoints.yolov5_weights import read_yolov5
from models.network.detector import Detector, build_model
from models.network.model_spec import ModelSpec
from utils.checkpoint import Checkpoint, is_native, load_checkpoint
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
    weights = checkpoint.best_weights if averaged else checkpoint.weights
    with torch.device("meta"):  # a wrong size takes no memory before it is refused
        _check_sizes(build_model(spec, form=checkpoint.form), weights)
    model = build_model(spec, form=checkpoint.form)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"checkpoint: weights do not fit the architecture: {error}") from None
    return model.float().eval()


def _check_sizes(model: Detector, weights: dict[str, Tensor]) -> None:
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    found = {name: tensor.shape for name, tensor in weights.items()}
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            shapes = [shape and tuple(shape) for shape in (found.get(name), expected.get(name))]
            raise CheckpointError(
                f"checkpoint: weights do not fit the architecture: {name} has shape {shapes[0]}, "
                f"expected {shapes[1]}"
            )
