"""Reads weights files and builds their networks."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from models.checkpoints.taken_over import Unfilled, apart
from models.checkpoints.yolov5_weights import read_yolov5
from models.network.detector import Detector, build_model
from models.network.model_spec import ModelSpec
from utils.checkpoint import Checkpoint, PickledClassesError, load_checkpoint
from utils.errors import CheckpointError


def read_weights(path: str | Path) -> Checkpoint:
    """Read our checkpoint or a YOLOv5 `.pt`; neither is executed.

    Raises:
        CheckpointError: missing, unreadable, unsafe, or of layers this project does not have.
    """
    path = Path(path)
    try:
        return load_checkpoint(path)
    except PickledClassesError as error:
        names = error.names
    return read_yolov5(path, names)


def build_from_checkpoint(
    checkpoint: Checkpoint, *, averaged: bool = True, take_over: bool = False
) -> Detector:
    """The network a checkpoint describes, in eval mode, float32.

    Args:
        checkpoint: of either form.
        averaged: load the averaged (EMA) weights where there are any, which score best; False
            loads those that training resumes from.
        take_over: use the checkpoint's tensors instead of copies, which saves their memory: to
            change the network is to change them, and every other network built so.

    Raises:
        CheckpointError: the weights do not fit the architecture, or are no numbers.
    """
    spec = ModelSpec.from_yaml(checkpoint.spec, checkpoint.name)
    weights = checkpoint.best_weights if averaged else checkpoint.weights
    with torch.device("meta"):  # a wrong size takes no memory before it is refused
        _check_sizes(build_model(spec, form=checkpoint.form), weights, checkpoint.name)
    for name, tensor in weights.items():
        if tensor.isnan().any():
            raise CheckpointError(
                f"{checkpoint.name}: {name} holds NaN: its training diverged; take an earlier one"
            )
    with Unfilled():
        model = build_model(spec, form=checkpoint.form)
    state = model.state_dict()
    own = apart(weights) if take_over else {name: each.clone() for name, each in weights.items()}
    model.load_state_dict(
        {name: tensor.to(state[name].dtype) for name, tensor in own.items()}, assign=True
    )
    return model.float().eval()


def _check_sizes(model: Detector, weights: dict[str, Tensor], where: str) -> None:
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    found = {name: tensor.shape for name, tensor in weights.items()}
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            shapes = [shape and tuple(shape) for shape in (found.get(name), expected.get(name))]
            raise CheckpointError(
                f"{where}: weights do not fit the architecture: {name} has shape {shapes[0]}, "
                f"expected {shapes[1]}"
            )
