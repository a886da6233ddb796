"""The first layer in two forms that compute the same: one 6x6 convolution, or Focus.

Focus puts the pixels (2y + i, 2x + j) of a 2x2 square into the channels of cell (y, x) and
convolves the cells 3x3. Tap (m, n) of that kernel on the channels of (i, j) meets the pixel
(2m + i, 2n + j) of a 6x6 window that starts two pixels before the cell, so both forms are one sum
over the same 108 numbers:

    conv[o, c, 2m + i, 2n + j] = focus[o, (2j + i) * 3 + c, m, n],   stride 2 and padding 2.

No 3x3 stem can compute that: it sees a quarter of the pixels. It has to be trained.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from models.conversion.deploy import is_deployed
from models.network.detector import Detector, build_model
from models.network.early_layers import Focus
from models.network.layers import ConvBNAct
from models.network.model_spec import ModelSpec
from models.network.module_copy import copy_with, in_float64
from models.reparam.rep_block import ConvAct, ConvParams, RepBlock, params_of
from utils.errors import ConfigError

_NAMES = {"conv": "Conv 6x6/2", "focus": "Focus 3x3"}  # the forms, as `stem_name` has them


def stem_name(model: Detector) -> str:
    """The first layer as `Conv 6x6/2` or `Focus 3x3`; equal before and after folding.

    Unusual padding, groups or dilation are added (`Conv 3x3/2 groups 3`). A layer that is no
    convolution is named by its class.
    """
    block = _stem_block(model)
    if not isinstance(block, ConvAct | RepBlock):
        return type(block).__name__
    params = block.equivalent_conv() if isinstance(block, RepBlock) else _geometry(block)
    height, width = params.weight.shape[2:]
    kind = "Focus" if isinstance(model.layers[0], Focus) else "Conv"
    stride = "" if params.stride == (1, 1) else f"/{params.stride[0]}"
    unusual = [
        f"{name} {value}"
        for name, value, usual in (
            ("padding", params.padding[0], (height - 1) // 2),
            ("groups", params.groups, 1),
            ("dilation", params.dilation[0], 1),
        )
        if value != usual
    ]
    return " ".join([f"{kind} {height}x{width}{stride}", *unusual])


def with_stem(model: Detector, form: str) -> Detector:
    """A new network that computes what `model` does, with a stem of this form.

    Args:
        model: in eval mode, in deploy form or in train form without blocks; it does not change.
        form: `conv` or `focus`.

    Raises:
        ConfigError: its stem is of another kind, which cannot be changed exactly.
        ValueError: it has blocks in train form, whose branches fit no stem of another shape.
    """
    before = stem_name(model)
    if before == _NAMES[form]:
        return copy.deepcopy(model)
    if before not in _NAMES.values():
        raise ConfigError(_refusal(before, form))
    deployed = is_deployed(model)
    plain = model.spec.rep_block is None and isinstance(_stem_block(model), ConvBNAct)
    if not deployed and not plain:
        raise ValueError("blocks have to be folded before the stem is changed; call to_deploy")
    spec = _with_row(model.spec, form)
    changed = build_model(spec, form="deploy" if deployed else "train")
    changed.to(next(model.parameters()))
    for index, (new, old) in enumerate(zip(changed.layers, model.layers, strict=True)):
        source = stem_layer(new, old) if index == 0 else old
        new.load_state_dict(source.state_dict())
    return changed.eval()


def stem_layer(saved: nn.Module, first: nn.Module) -> nn.Module:
    """The first layer in the form of its namesake in a network that `with_stem` made.

    Args:
        saved: the namesake, in any dtype.
        first: in the dtype to compare in; returned as it is where it has that form already.

    Returns:
        That layer, or one in float64 that computes the same.
    """
    if isinstance(saved, Focus) == isinstance(first, Focus):
        return first
    changed = copy_with(saved, in_float64)
    weights, inside = first.state_dict(), "conv."  # where Focus has its convolution
    if isinstance(saved, Focus):
        weights = {inside + name: tensor for name, tensor in weights.items()}
        kernel = f"{inside}conv.weight"
    else:
        weights = {name.removeprefix(inside): tensor for name, tensor in weights.items()}
        kernel = "conv.weight"
    reshape = focus_kernel if isinstance(saved, Focus) else conv_kernel
    changed.load_state_dict({**weights, kernel: reshape(weights[kernel])})
    return changed


def conv_kernel(focus: Tensor) -> Tensor:
    """The kernel (out, 12, 3, 3) of a Focus as (out, 3, 6, 6) of the convolution."""
    by_position = focus.reshape(-1, 2, 2, 3, 3, 3)  # out, j, i, colour, m, n
    return by_position.permute(0, 3, 4, 2, 5, 1).reshape(-1, 3, 6, 6)


def focus_kernel(conv: Tensor) -> Tensor:
    """The kernel (out, 3, 6, 6) of the convolution as (out, 12, 3, 3) of a Focus."""
    by_position = conv.reshape(-1, 3, 3, 2, 3, 2)  # out, colour, m, i, n, j
    return by_position.permute(0, 5, 3, 1, 2, 4).reshape(-1, 12, 3, 3)


def _stem_block(model: Detector) -> nn.Module:
    first = model.layers[0]
    return first.conv if isinstance(first, Focus) else first


def _geometry(block: ConvAct) -> ConvParams:
    """Of a folded block; the bias is a placeholder."""
    return params_of(block.conv, block.conv.weight, block.conv.weight)


def _refusal(before: str, form: str) -> str:
    possible = _NAMES["focus" if form == "conv" else "conv"]
    advice = (
        "keep it: accelerators run no stem faster"
        if before == "Conv 3x3/2"
        else "for accelerators train a 3x3 stem: train.py --cfg repyolov5n-npu.yaml"
    )
    return (
        f"--stem {form}: the stem is {before}, and only {possible} can become {_NAMES[form]} "
        f"without changing what the network computes; {advice}"
    )


def _with_row(spec: ModelSpec, form: str) -> ModelSpec:
    """The same architecture with another first row; channels and activation stay."""
    source, repeats, module, args = spec.backbone[0]
    index_of_act = {"Conv": 6, "Focus": 5}.get(module.removeprefix("nn."), len(args))
    no_act = len(args) > index_of_act and not args[index_of_act]
    row: tuple[Any, ...] = (args[0], 6, 2, 2) if form == "conv" else (args[0], 3)
    if no_act:  # the last argument: those between are as they would be without it
        row += (1, 1, False) if form == "conv" else (1, None, 1, False)
    name = "Conv" if form == "conv" else "Focus"
    return spec.replaced(backbone=((source, repeats, name, row), *spec.backbone[1:]))
