"""Back to YOLOv5: a state dict in its names and the yaml that builds its network.

A `.pt` of ultralytics/yolov5 is a pickle of classes of that project, which is not here. So a
checkpoint of ours is written that also holds `yaml`, `names` (in class-id order) and `state_dict`,
complete, from which a clone of that project makes such a `.pt` (`how_to_load`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.checkpoints.inert_pickle import read_inert
from models.network.detector import Detector, build_model
from models.network.model_spec import DEFAULT_ACTIVATION, ModelSpec
from utils.call_text import parse_call
from utils.checkpoint import Checkpoint, save_checkpoint
from utils.errors import CheckpointError

_HOW_TO_LOAD = """\
In a clone of ultralytics/yolov5 (version 7.0 or later), this writes its .pt:

import torch
from models.yolo import DetectionModel
saved = torch.load({state_dict!r}, weights_only=True)
model = DetectionModel(saved["yaml"])
model.load_state_dict(saved["state_dict"])
model.names = dict(enumerate(saved["names"]))
torch.save({{"model": model, "ema": None}}, {checkpoint!r})"""


def save_yolov5(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint of `as_yolov5`, with YOLOv5's yaml, names and state dict beside it.

    The state dict's tensors are the checkpoint's: the file holds each once.
    """
    spec = ModelSpec.from_yaml(checkpoint.spec, str(path))
    weights = {name: tensor.detach().cpu() for name, tensor in checkpoint.weights.items()}
    anchors = _anchors_in_cells(build_model(spec))
    beside = {
        "yaml": yolov5_yaml(spec),
        "names": list(checkpoint.class_names),
        "state_dict": {
            **{name.replace("layers.", "model.", 1): each for name, each in weights.items()},
            f"model.{len(spec.layers) - 1}.anchors": anchors,
        },
    }
    save_checkpoint(path, replace(checkpoint, weights=weights), beside)


def load_yolov5(path: Path) -> Checkpoint:
    """What a file says in YOLOv5's names, for the check of it.

    Raises:
        CheckpointError: it does not.
    """
    content = read_inert(path)
    missing = {"yaml", "names", "state_dict"} - content.keys()
    if missing:
        raise CheckpointError(f"{path}: has no {', '.join(sorted(missing))}")
    return Checkpoint(
        form="train",
        spec=ModelSpec.from_yaml(content["yaml"], str(path)).to_yaml(),
        class_names=tuple(content["names"]),
        weights={
            name.replace("model.", "layers.", 1): tensor
            for name, tensor in content["state_dict"].items()
            if not name.endswith(".anchors")
        },
    )


def how_to_load(path: Path) -> str:
    """The lines that make a `.pt` of YOLOv5 of a file of ours, in a clone of that project."""
    absolute = path.resolve()
    full = absolute.with_name(f"{absolute.stem}-pickled.pt")
    return _HOW_TO_LOAD.format(state_dict=str(absolute), checkpoint=str(full))


def yolov5_yaml(spec: ModelSpec) -> dict[str, Any]:
    """The yaml in YOLOv5's grammar, without keys of ours."""
    ours = ("activation", "channel_multiple", "rep_block", "rep_policy")
    yaml = {key: value for key, value in spec.to_yaml().items() if key not in ours}
    activation = _activation(spec.activation)
    # Its default is not named: versions before 7.0 know no such key.
    is_default = activation == _activation(DEFAULT_ACTIVATION)
    return yaml if is_default else {**yaml, "activation": activation}


def _activation(text: str) -> str:
    """As YOLOv5's yaml spells it: a call in Python, in the namespace `nn`."""
    call = parse_call(text, "activation")
    keywords = [f"{key}={value!r}" for key, value in call.kwargs.items()]
    return f"nn.{call.name}({', '.join([*map(repr, call.args), *keywords])})"


def _anchors_in_cells(model: Detector) -> Tensor:
    """(levels, A, 2) width and height in cells, the buffer of YOLOv5's head."""
    strides = torch.tensor(model.strides, dtype=torch.float32)
    pixels = torch.tensor(model.spec.anchors, dtype=torch.float32).view(len(strides), -1, 2)
    return pixels / strides.view(-1, 1, 1)
