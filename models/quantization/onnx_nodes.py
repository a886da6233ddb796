"""The nodes of ONNX files, and the operators of our networks in torch.

Only operators that accelerators take (`models.formats.format.NPU_OPERATORS`), and HardSigmoid,
into which onnxruntime decomposes HardSwish. Inputs are tensors, None where one is omitted;
attributes are the file's; the functions fill in ONNX's defaults.

Shapes: B images, C channels, H W cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Inputs = Sequence[Tensor | None]
Attributes = Mapping[str, Any]
# Coordinate and rounding modes that repeat each cell when a size grows by an integer factor.
REPEATS = (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"))


@dataclass(frozen=True, slots=True)
class Node:
    """One node with its first output; an omitted input has an empty name."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: Attributes

    def input(self, index: int) -> str:
        """The name of an input; empty where it is omitted."""
        return self.inputs[index] if index < len(self.inputs) else ""


def nodes_of(model: Any) -> list[Node]:
    """The nodes of an `onnx.ModelProto`, in order."""
    return [
        Node(
            name=node.name,
            operator=node.op_type,
            inputs=tuple(node.input),
            output=node.output[0],
            attributes={each.name: _attribute(each) for each in node.attribute},
        )
        for node in model.graph.node
    ]


def unsupported(node: Node) -> str:
    """The reason why OPERATORS cannot compute a node; empty if they can."""
    if node.operator not in OPERATORS:
        return f"operator {node.operator} is not one of {', '.join(sorted(OPERATORS))}"
    given = node.attributes
    if given.get("auto_pad", "NOTSET") != "NOTSET":
        return f"auto_pad {given['auto_pad']} is not NOTSET"
    if node.operator == "Resize":
        mode = given.get("mode", "nearest")
        how = (
            given.get("coordinate_transformation_mode", "half_pixel"),
            given.get("nearest_mode", "round_prefer_floor"),
        )
        if mode != "nearest" or how not in REPEATS or not node.input(2):
            return f"mode {mode} ({', '.join(how)}) is not nearest by scales"
    return ""


def _attribute(proto: Any) -> Any:
    from onnx import helper

    value = helper.get_attribute_value(proto)
    return value.decode() if isinstance(value, bytes) else value


def _given(inputs: Inputs) -> list[Tensor]:
    return [each for each in inputs if each is not None]


def _padded(x: Tensor, attributes: Attributes, value: float) -> Tensor:
    """(B, C, H, W) with the node's own padding, which may differ from side to side."""
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    return F.pad(x, (left, right, top, bottom), value=value)


def _conv(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, weight, *bias = _given(inputs)
    return F.conv2d(
        _padded(x, attributes, 0.0),
        weight,
        bias[0] if bias else None,
        stride=tuple(attributes.get("strides", (1, 1))),
        dilation=tuple(attributes.get("dilations", (1, 1))),
        groups=attributes.get("group", 1),
    )


def _max_pool(inputs: Inputs, attributes: Attributes) -> Tensor:
    (x,) = _given(inputs)
    return F.max_pool2d(
        _padded(x, attributes, -torch.inf),
        tuple(attributes["kernel_shape"]),
        stride=tuple(attributes.get("strides", (1, 1))),
        dilation=tuple(attributes.get("dilations", (1, 1))),
        ceil_mode=bool(attributes.get("ceil_mode", 0)),
    )


def _resize(inputs: Inputs, attributes: Attributes) -> Tensor:
    del attributes  # checked by `unsupported`
    x, scales = _given(inputs)
    rows, columns = (int(factor) for factor in scales.tolist()[2:])
    return x.repeat_interleave(rows, 2).repeat_interleave(columns, 3)


def _concat(inputs: Inputs, attributes: Attributes) -> Tensor:
    return torch.cat(_given(inputs), attributes["axis"])


def _add(inputs: Inputs, _: Attributes) -> Tensor:
    one, other = _given(inputs)
    return one + other


def _mul(inputs: Inputs, _: Attributes) -> Tensor:
    one, other = _given(inputs)
    return one * other


def _clip(inputs: Inputs, _: Attributes) -> Tensor:
    x, low, high = (*inputs, None, None)[:3]
    (clipped,) = _given((x,))
    if low is not None:
        clipped = torch.maximum(clipped, low)
    return clipped if high is None else torch.minimum(clipped, high)


def _relu(inputs: Inputs, _: Attributes) -> Tensor:
    return F.relu(_given(inputs)[0])


def _leaky_relu(inputs: Inputs, attributes: Attributes) -> Tensor:
    return F.leaky_relu(_given(inputs)[0], attributes.get("alpha", 0.01))


def _sigmoid(inputs: Inputs, _: Attributes) -> Tensor:
    return _given(inputs)[0].sigmoid()


def _hard_sigmoid(inputs: Inputs, attributes: Attributes) -> Tensor:
    slope, offset = float(attributes.get("alpha", 0.2)), float(attributes.get("beta", 0.5))
    return (_given(inputs)[0] * slope + offset).clamp(0, 1)


def _hard_swish(inputs: Inputs, _: Attributes) -> Tensor:
    return F.hardswish(_given(inputs)[0])


OPERATORS: dict[str, Callable[[Inputs, Attributes], Tensor]] = {
    "Add": _add,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "LeakyRelu": _leaky_relu,
    "MaxPool": _max_pool,
    "Mul": _mul,
    "Relu": _relu,
    "Resize": _resize,
    "Sigmoid": _sigmoid,
}
