"""Back to YOLOv5: a state dict in its names and the yaml that builds its network.

A `.pt` of ultralytics/yolov5 is a pickle of classes of that project, which is not here. So a
checkpoint of ours is written that also holds `yaml`, `names` (in class-id order) and `state_dict`,
complete, from which a clone of that project makes such a `.pt` (`how_to_load`).

YOLOv5 has a batch-norm behind every convolution. What has none left gets one that changes nothing:
mean 0, variance 1 - eps, weight 1, the convolution's bias as its bias. In float16, which YOLOv5
rounds checkpoints to, that one is nearer to nothing than variance 1 and weight sqrt(1 + eps).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.checkpoints.inert_pickle import read_inert
from models.conversion.deploy import to_deploy
from models.network.detector import Detector, build_model
from models.network.layers import ConvBNAct
from models.network.model_spec import DEFAULT_ACTIVATION, ModelSpec
from models.reparam.families import FAMILIES
from models.reparam.rep_block import EPS, ConvAct, RepBlock
from utils.checkpoint import Checkpoint, save_checkpoint
from utils.errors import CheckpointError
from utils.strict_yaml import parse_call

_HOW_TO_LOAD = """\
In a clone of ultralytics/yolov5 (version 7.0 or later), this writes its .pt:

import torch
from models.yolo import DetectionModel
saved = torch.load({state_dict!r}, weights_only=True)
model = DetectionModel(saved["yaml"])
model.load_state_dict(saved["state_dict"])
model.names = dict(enumerate(saved["names"]))
torch.save({{"model": model, "ema": None}}, {checkpoint!r})"""

_REP_ROWS = {*FAMILIES, "RepVGGBlock"}
_MULTIPLE = 8  # YOLOv5 rounds channels up to it
_SCALED_ROWS = {"Conv", "Focus", "Bottleneck", "C3", "SPP", "SPPF"}


def as_yolov5(model: Detector) -> Detector:
    """A network of YOLOv5's layers that computes what `model` does: convolution, norm, activation.

    Args:
        model: in eval mode, of any form; it does not change. Norms stay as they are where it has
            no block with branches.
    """
    plain = build_model(_plain_spec(model.spec), form="train").to(next(model.parameters()))
    blocks = [each for each in model.modules() if isinstance(each, RepBlock | ConvAct)]
    if all(type(block) is ConvBNAct for block in blocks):
        plain.load_state_dict(model.state_dict())
        return plain.eval()
    deployed = to_deploy(model)
    for name, block in plain.named_modules():
        if isinstance(block, ConvBNAct):
            _take_over(block, deployed.get_submodule(name))
    plain.head.load_state_dict(model.head.state_dict())
    return plain.eval()


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


@torch.no_grad()
def _take_over(block: ConvBNAct, folded: nn.Module) -> None:
    """Give a block the convolution of a folded one, and a norm that changes nothing."""
    if not isinstance(folded, ConvAct) or folded.conv.bias is None:
        raise TypeError(f"{type(folded).__name__} is no folded block")
    block.conv.weight.copy_(folded.conv.weight)
    state = block.bn.state_dict()
    state["weight"].fill_(1.0)
    state["bias"].copy_(folded.conv.bias)
    state["running_mean"].fill_(0.0)
    state["running_var"].fill_(1.0 - EPS)


def _plain_spec(spec: ModelSpec) -> ModelSpec:
    """Without blocks, in rows that YOLOv5 has, channels in multiples of 8."""
    backbone = tuple(_plain_row(row, spec) for row in spec.backbone)
    head = tuple(_plain_row(row, spec) for row in spec.head)
    plain = spec.replaced(backbone=backbone, head=head, rep_block=None, rep_policy="all")
    if spec.channel_multiple == _MULTIPLE:
        return plain
    return plain.replaced(channel_multiple=_MULTIPLE, width_multiple=1.0)


def _plain_row(row: tuple[Any, ...], spec: ModelSpec) -> tuple[Any, ...]:
    source, repeats, module, args = row
    module = module.removeprefix("nn.")
    if module in _REP_ROWS:  # their kernels are 3x3 where the row does not say
        module, args = "Conv", (*args, 3) if len(args) == 1 else args
    if module in _SCALED_ROWS and spec.channel_multiple != _MULTIPLE:
        args = (spec.scaled_channels(args[0]), *args[1:])
    return (source, repeats, "nn.Upsample" if module == "Upsample" else module, args)


def _anchors_in_cells(model: Detector) -> Tensor:
    """(levels, A, 2) width and height in cells, the buffer of YOLOv5's head."""
    strides = torch.tensor(model.strides, dtype=torch.float32)
    pixels = torch.tensor(model.spec.anchors, dtype=torch.float32).view(len(strides), -1, 2)
    return pixels / strides.view(-1, 1, 1)
