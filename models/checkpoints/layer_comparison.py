"""Compares the layers that were built with those in a pickled YOLOv5 network, one by one.

Weights show the shape of a kernel, not what is done with it. Whatever a layer's output depends on
is compared, and one difference refuses the file, naming layer, attribute, value and what is
supported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from models.checkpoints.inert_pickle import InertObject, UnreadableError, shown
from models.checkpoints.pickled_graph import NORMS, activation_text, layer_name
from models.network.attention_layers import C3TR, SE, TransformerBlock, TransformerLayer
from models.network.conv_layers import C3x, CrossConv
from models.network.early_layers import BottleneckCSP, Contract, Expand, Focus
from models.network.ghost_layers import C3Ghost, GhostBottleneck, GhostConv
from models.network.layers import (
    ACTIVATIONS,
    C3,
    SPPF,
    Bottleneck,
    Concat,
    ConvBNAct,
    DetectHead,
)
from models.network.lite_layers import (
    ConvPool,
    DenseConv,
    DepthwiseSeparable,
    GatedBlock,
    ShuffleUnit,
    WeightedSum,
)
from models.network.yolo_layers import C3SPP, SPPCSPC, C2f, DoubleConv
from models.reparam.branched_conv import BranchedConv
from models.reparam.branches import ConvBranch, IdentityBranch
from utils.errors import CheckpointError

_MISSING = "missing"  # equals no attribute's value


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a pickled module has to be.

    Attributes:
        classes: names of the classes that compute the same.
        required: attributes of both modules.
        attributes: attributes of both modules that old files lack -> the value that counts then.
        constants: attributes that only the pickled module has -> the one value supported; None
            means that the attribute may be missing.
    """

    classes: tuple[str, ...]
    required: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)


_CONV = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
_LINEAR = _Kind(("Linear", "NonDynamicallyQuantizableLinear"), ("in_features", "out_features"))
_KINDS: dict[type[nn.Module], _Kind] = {
    nn.Sequential: _Kind(("Sequential",)),
    nn.ModuleList: _Kind(("ModuleList",)),
    nn.ModuleDict: _Kind(("ModuleDict",)),
    ConvBNAct: _Kind(("Conv", "CBH", "DWConv")),
    Bottleneck: _Kind(("Bottleneck",), ("add",)),
    C3: _Kind(("C3",)),
    BottleneckCSP: _Kind(("BottleneckCSP",)),
    C2f: _Kind(("C2f",)),
    DoubleConv: _Kind(("Bottleneck",), ("add",)),
    C3Ghost: _Kind(("C3Ghost",)),
    C3SPP: _Kind(("C3SPP",)),
    C3TR: _Kind(("C3TR",)),
    C3x: _Kind(("C3x",)),
    SPPCSPC: _Kind(("SPPCSPC",)),
    SPPF: _Kind(("SPPF", "SPP")),
    Focus: _Kind(("Focus",)),
    Concat: _Kind(("Concat",), constants={"d": 1}),
    DetectHead: _Kind(("Detect",)),
    GhostConv: _Kind(("GhostConv",)),
    GhostBottleneck: _Kind(("GhostBottleneck",)),
    CrossConv: _Kind(("CrossConv",), ("add",)),
    Contract: _Kind(("Contract",), ("gain",)),
    Expand: _Kind(("Expand",), ("gain",)),
    TransformerBlock: _Kind(("TransformerBlock",)),
    TransformerLayer: _Kind(("TransformerLayer",)),
    nn.MultiheadAttention: _Kind(
        ("MultiheadAttention",),
        ("embed_dim", "num_heads"),
        {"dropout": 0.0, "batch_first": False, "add_zero_attn": False},
    ),
    nn.Linear: _LINEAR,
    NonDynamicallyQuantizableLinear: _LINEAR,  # in MultiheadAttention
    nn.Conv2d: _Kind(("Conv2d",), _CONV, {"padding_mode": "zeros", "transposed": False}),
    nn.ConvTranspose2d: _Kind(
        ("ConvTranspose2d", "DWConvTranspose2d"),
        (*_CONV, "output_padding"),
        {"padding_mode": "zeros", "transposed": True},
    ),
    nn.BatchNorm2d: _Kind(
        NORMS,
        ("num_features", "eps", "momentum", "affine"),
        {"track_running_stats": True},
    ),
    nn.MaxPool2d: _Kind(
        ("MaxPool2d", "MP", "SP"),
        ("kernel_size", "stride", "padding", "dilation"),
        {"return_indices": False, "ceil_mode": False},
    ),
    nn.AvgPool2d: _Kind(
        ("AvgPool2d",),
        ("kernel_size", "stride", "padding"),
        {"ceil_mode": False, "count_include_pad": True, "divisor_override": None},
    ),
    ShuffleUnit: _Kind(("Shuffle_Block",), ("stride",)),
    ConvPool: _Kind(("conv_bn_relu_maxpool",)),
    DepthwiseSeparable: _Kind(("DWConvblock", "LC_Block")),
    SE: _Kind(("LC_SEModule", "SEBlock")),
    DenseConv: _Kind(("Dense",)),
    WeightedSum: _Kind(("ADD",)),
    GatedBlock: _Kind(("RepVGGBlock",)),
    BranchedConv: _Kind(("RepVGGBlock", "RepConv", "RepVGG")),
    ConvBranch: _Kind(("ConvBranch",)),
    IdentityBranch: _Kind(("IdentityBranch",)),
    nn.Sigmoid: _Kind(("Sigmoid",)),
    nn.Hardsigmoid: _Kind(("Hardsigmoid",)),
    nn.Dropout: _Kind(("Dropout",)),
    nn.ZeroPad2d: _Kind(("ZeroPad2d",), ("padding",)),
    nn.Upsample: _Kind(
        ("Upsample",), ("scale_factor", "mode"), {"size": None, "align_corners": None}
    ),
}


def compare(built: nn.Module, found: InertObject, name: str, where: str) -> None:
    """Refuse a pickled module that computes something else than the built one.

    Args:
        built: ours.
        found: the pickled one.
        name: of `found`, dotted, from the root of the pickled network.
        where: the file, for messages.

    Raises:
        CheckpointError: naming layer, attribute, value and what is supported.
    """
    location = f"{where}: {layer_name(name)}"
    for hooks in ("_forward_hooks", "_forward_pre_hooks"):
        if found.attribute(hooks):
            raise CheckpointError(f"{location}: has {hooks}, which change what it computes; "
                                  "supported: none")  # fmt: skip
    if isinstance(built, tuple(ACTIVATIONS.values())):
        _compare_activation(built, found, location)
        return
    kind = _KINDS.get(type(built))
    if kind is None:  # a name that several projects have given to layers of their own
        raise CheckpointError(f"{location}: class is {found.class_name}, whose weights this "
                              "project does not read; train it anew from its yaml")  # fmt: skip
    if found.class_name not in kind.classes:
        _refuse(location, "class", found.class_name, " or ".join(kind.classes))
    defaults = {**dict.fromkeys(kind.required, _MISSING), **kind.attributes}
    for attribute, default in defaults.items():
        value = found.__dict__.get(attribute, default)
        expected = getattr(built, attribute)
        if not _same(value, expected):
            _refuse(location, attribute, value, expected)
    for attribute, expected in kind.constants.items():
        if not _same(found.__dict__.get(attribute, expected), expected):
            _refuse(location, attribute, found.attribute(attribute), expected)
    _compare_children(built, found, name, where)


def _compare_children(built: nn.Module, found: InertObject, name: str, where: str) -> None:
    location = f"{where}: {layer_name(name)}"
    ours = {key: child for key, child in built.named_children() if key != "space_to_depth"}
    same = ours.keys() == found.children.keys()
    if isinstance(built, nn.Sequential | nn.ModuleList):
        same = list(ours) == list(found.children)
    if not same:
        _refuse(location, "submodules", ", ".join(found.children), ", ".join(ours))
    for key, child in ours.items():
        pickled = found.children[key]
        if found.class_name == "SPP" and isinstance(child, nn.MaxPool2d):
            _compare_parallel_pools(child, pickled, f"{name}.{key}", where)
        else:
            compare(child, pickled, f"{name}.{key}", where)


def _compare_parallel_pools(built: nn.MaxPool2d, found: InertObject, name: str, where: str) -> None:
    """Three pools beside each other, which equal three chained ones of the first one's size."""
    size = built.kernel_size
    if not isinstance(size, int):
        raise TypeError(f"SPPF has square pools, not {size}")
    pools = [nn.MaxPool2d(side, 1, side // 2) for side in (size, 2 * size - 1, 3 * size - 2)]
    compare(nn.ModuleList(pools), found, name, where)


def _compare_activation(built: nn.Module, found: InertObject, location: str) -> None:
    expected = activation_text(type(built).__name__, vars(built))
    try:
        text = activation_text(found.class_name, found.__dict__)
    except UnreadableError as error:
        raise CheckpointError(f"{location}: {error}") from None
    if text != expected:
        _refuse(location, "activation", text, expected)


def _refuse(location: str, attribute: str, value: object, supported: object) -> None:
    value, supported = (
        each if isinstance(each, str) else shown(each) for each in (value, supported)
    )
    raise CheckpointError(
        f"{location}: {attribute} is {value}, but the layer this project builds for it has "
        f"{supported}"
    )


def _same(value: object, expected: object) -> bool:
    """Equal; one number along both axes equals a pair of it."""
    value, expected = _single(value), _single(expected)
    return type(value) in (int, float, str, bool, tuple, type(None)) and value == expected


def _single(value: object) -> object:
    """The number in a pair of equal numbers; anything else as it is."""
    if isinstance(value, tuple | list) and value and all(type(v) in (int, float) for v in value):
        return value[0] if len(set(value)) == 1 else tuple(value)
    return value


def compare_head(built: DetectHead, found: InertObject, name: str, where: str) -> None:
    """Refuse a head whose counts are not those of its convolutions.

    Raises:
        CheckpointError: naming layer, attribute, value and what is supported.
    """
    counts = {
        "nc": built.num_classes,
        "no": built.num_classes + 5,
        "na": built.num_anchors,
        "nl": len(built.m),
    }
    for attribute, expected in counts.items():
        value = found.__dict__.get(attribute, expected)
        if not _same(value, expected):
            _refuse(f"{where}: {layer_name(name)}", attribute, value, expected)
