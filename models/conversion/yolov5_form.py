"""A network in the layers of YOLOv5, which has a batch-norm behind every convolution.

What has no norm left gets one that changes nothing: mean 0, variance 1 - eps, weight 1, the
convolution's bias as its bias. YOLOv5 rounds checkpoints to float16: there, this norm is nearer to
nothing than one of variance 1 and weight sqrt(1 + eps).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from models.conversion.deploy import to_deploy
from models.network.detector import Detector, build_model
from models.network.layers import ConvBNAct, DetectHead
from models.network.model_spec import ModelSpec
from models.network.module_copy import copy_with, in_float64
from models.reparam.families import FAMILIES
from models.reparam.rep_block import EPS, ConvAct, RepBlock

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
    if has_norms(model):
        plain.load_state_dict(model.state_dict())
        return plain.eval()
    deployed = to_deploy(model)
    _take_over_all(plain, deployed)
    plain.head.load_state_dict(model.head.state_dict())
    return plain.eval()


def has_norms(model: Detector) -> bool:
    """Whether it is in YOLOv5's layers but for their names: a norm behind every convolution."""
    blocks = [each for each in model.modules() if isinstance(each, RepBlock | ConvAct)]
    return all(type(block) is ConvBNAct for block in blocks)


def yolov5_layer(saved: nn.Module, layer: nn.Module, *, keep_norms: bool) -> nn.Module:
    """One layer of a network as `as_yolov5` writes it.

    Args:
        saved: its namesake in a network that `as_yolov5` made, in any dtype.
        layer: in float64; it does not change.
        keep_norms: whether the whole network `has_norms`.
    """
    plain = copy_with(saved, in_float64)
    if keep_norms or isinstance(layer, DetectHead):
        plain.load_state_dict(layer.state_dict())
    else:
        _take_over_all(nn.ModuleList([plain]), nn.ModuleList([to_deploy(layer)]))
    return plain.eval()


def _take_over_all(plain: nn.Module, deployed: nn.Module) -> None:
    for name, block in plain.named_modules():
        if isinstance(block, ConvBNAct):
            _take_over(block, deployed.get_submodule(name))


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
