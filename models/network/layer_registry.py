"""The table from a row's module name to the function that builds it.

A builder takes the row's context, and the row's arguments by position as in the yaml; its signature
is the grammar of the row.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from torch import nn

from models.network.layers import C3, SPPF, Bottleneck, Concat, ConvFactory, DetectHead, Focus
from models.network.model_spec import MAX_NUMBER, LayerSpec, ModelSpec
from models.reparam.families import FAMILIES
from models.reparam.rep_block import ConvGeometry
from utils.errors import ConfigError, first_line, suggest


@dataclass(frozen=True, slots=True)
class RowContext:
    """What a builder knows of a row besides its arguments.

    Attributes:
        layer: the row.
        spec: the architecture it is part of.
        in_channels: channels of each source.
        in_strides: input pixels per cell of each source.
        repeats: how many times the block is repeated, after depth scaling.
        conv: makes the convolutions.
    """

    layer: LayerSpec
    spec: ModelSpec
    in_channels: tuple[int, ...]
    in_strides: tuple[Fraction, ...]
    repeats: int
    conv: ConvFactory

    def scaled_channels(self, channels: int) -> int:
        """As ModelSpec.scaled_channels."""
        return self.spec.scaled_channels(channels)


@dataclass(frozen=True, slots=True)
class BuiltLayer:
    """A module, its number of output channels, and its stride in input pixels per cell."""

    module: nn.Module
    out_channels: int
    stride: Fraction


RowBuilder = Callable[..., BuiltLayer]


def _integers(row: RowContext, minimum: int = 1, **values: object) -> None:
    for name, value in values.items():
        if type(value) is not int or not minimum <= value < MAX_NUMBER:
            raise ConfigError(
                f"{row.layer.where}: {name} is {value!r}, expected an integer of at least {minimum}"
            )


def _flag(row: RowContext, name: str, value: object) -> None:
    if type(value) is not bool:
        raise ConfigError(f"{row.layer.where}: {name} is {value!r}, expected True or False")


def _one_of(row: RowContext, name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(
            f"{row.layer.where}: {name} is {value!r}, expected one of {', '.join(known)}"
        )


def _expansion(row: RowContext, channels: int, e: object) -> None:
    if not isinstance(e, int | float) or not 1 <= channels * e < math.inf:
        raise ConfigError(
            f"{row.layer.where}: e is {e!r}, expected a factor that leaves at least one "
            f"of {channels} channels"
        )


def _geometry(
    row: RowContext, out: int, k: int, s: int, p: int | None, g: int, d: int
) -> ConvGeometry:
    _integers(row, out=out, k=k, s=s, g=g, d=d)
    if p is not None:
        _integers(row, minimum=0, p=p)
    return ConvGeometry(row.in_channels[0], row.scaled_channels(out), k, s, p, g, d)


def _conv(
    row: RowContext,
    out: int,
    k: int = 1,
    s: int = 1,
    p: int | None = None,
    g: int = 1,
    d: int = 1,
    act: bool = True,
) -> BuiltLayer:
    geometry = _geometry(row, out, k, s, p, g, d)
    _flag(row, "act", act)
    module = row.conv(geometry, act=act)
    return BuiltLayer(module, geometry.out_channels, row.in_strides[0] * s)


def _focus(
    row: RowContext,
    out: int,
    k: int = 1,
    s: int = 1,
    p: int | None = None,
    g: int = 1,
    act: bool = True,
) -> BuiltLayer:
    geometry = _geometry(row, out, k, s, p, g, 1)
    _flag(row, "act", act)
    module = Focus(geometry, act=act, conv=row.conv)
    return BuiltLayer(module, geometry.out_channels, row.in_strides[0] * 2 * s)


def _rep_row(family: str) -> RowBuilder:
    def build(
        row: RowContext, out: int, k: int = 3, s: int = 1, p: int | None = None, g: int = 1
    ) -> BuiltLayer:
        geometry = _geometry(row, out, k, s, p, g, 1)
        module = row.conv.block(FAMILIES[family], geometry)
        return BuiltLayer(module, geometry.out_channels, row.in_strides[0] * s)

    return build


def _bottleneck_channels(row: RowContext, out: int, shortcut: bool, g: int, e: float) -> int:
    """Check the arguments that C3 and Bottleneck share; returns the scaled channels."""
    _integers(row, out=out, g=g)
    _flag(row, "shortcut", shortcut)
    channels = row.scaled_channels(out)
    _expansion(row, channels, e)
    return channels


def _c3(row: RowContext, out: int, shortcut: bool = True, g: int = 1, e: float = 0.5) -> BuiltLayer:
    channels = _bottleneck_channels(row, out, shortcut, g, e)
    module = C3(
        row.in_channels[0],
        channels,
        repeats=row.repeats,
        shortcut=shortcut,
        groups=g,
        expansion=e,
        conv=row.conv,
    )
    return BuiltLayer(module, channels, row.in_strides[0])


def _bottleneck(
    row: RowContext, out: int, shortcut: bool = True, g: int = 1, e: float = 0.5
) -> BuiltLayer:
    channels = _bottleneck_channels(row, out, shortcut, g, e)
    module = Bottleneck(
        row.in_channels[0], channels, shortcut=shortcut, groups=g, expansion=e, conv=row.conv
    )
    return BuiltLayer(module, channels, row.in_strides[0])


def _sppf(row: RowContext, out: int, k: int = 5) -> BuiltLayer:
    _integers(row, out=out, k=k)
    if k % 2 == 0:
        raise ConfigError(f"{row.layer.where}: k is {k}, expected an odd number")
    channels = row.scaled_channels(out)
    module = SPPF(row.in_channels[0], channels, k, conv=row.conv)
    return BuiltLayer(module, channels, row.in_strides[0])


def _spp(row: RowContext, out: int, k: Sequence[int] = (5, 9, 13)) -> BuiltLayer:
    """YOLOv5 v5's parallel pools, built as SPPF: chained pools of the first size equal them."""
    first = k[0] if isinstance(k, Sequence) and k else None
    if not isinstance(first, int) or list(k) != [first, 2 * first - 1, 3 * first - 2]:
        raise ConfigError(f"{row.layer.where}: k is {k!r}, expected [k, 2k - 1, 3k - 2], as 5 9 13")
    return _sppf(row, out, first)


def _upsample(
    row: RowContext, size: None = None, scale: int = 2, mode: str = "nearest"
) -> BuiltLayer:
    if size is not None:
        raise ConfigError(f"{row.layer.where}: size is {size!r}; give None and a scale factor")
    _integers(row, scale=scale)
    _one_of(row, "mode", mode, ("nearest", "bilinear", "bicubic"))
    module = nn.Upsample(scale_factor=scale, mode=mode)
    return BuiltLayer(module, row.in_channels[0], row.in_strides[0] / scale)


def _concat(row: RowContext, dimension: int = 1) -> BuiltLayer:
    if dimension != 1:
        raise ConfigError(f"{row.layer.where}: dimension is {dimension!r}, only channels (1) join")
    if len(set(row.in_strides)) > 1:
        strides = ", ".join(str(stride) for stride in row.in_strides)
        raise ConfigError(f"{row.layer.where}: joins maps of different strides ({strides})")
    return BuiltLayer(Concat(), sum(row.in_channels), row.in_strides[0])


def _detect(row: RowContext, nc: object = "nc", anchors: object = "anchors") -> BuiltLayer:
    if row.layer.index + 1 < len(row.spec.backbone) + len(row.spec.head):
        raise ConfigError(f"{row.layer.where}: Detect must be the last row")
    if nc not in ("nc", row.spec.num_classes):
        raise ConfigError(
            f"{row.layer.where}: nc is {nc!r}, but the file says {row.spec.num_classes}"
        )
    if anchors != "anchors" and anchors != row.spec.anchors:
        raise ConfigError(f"{row.layer.where}: write the anchors at the key `anchors`")
    if len(row.spec.anchors) != len(row.in_channels):
        raise ConfigError(
            f"{row.layer.where}: reads {len(row.in_channels)} maps, "
            f"but anchors has {len(row.spec.anchors)} levels"
        )
    num_anchors = len(row.spec.anchors[0]) // 2
    module = DetectHead(row.in_channels, num_anchors, row.spec.num_classes)
    return BuiltLayer(module, 0, row.in_strides[0])


LAYERS: dict[str, RowBuilder] = {
    "Conv": _conv,
    "Focus": _focus,
    "Bottleneck": _bottleneck,
    "C3": _c3,
    "SPP": _spp,
    "SPPF": _sppf,
    "Concat": _concat,
    "Upsample": _upsample,
    "Detect": _detect,
    "RepVGGBlock": _rep_row("RepVGG"),
    **{family: _rep_row(family) for family in FAMILIES},
}
_REPEATS_INSIDE = {"C3"}  # the block takes the repeats itself; others are chained
_READ_SEVERAL = {"Concat", "Detect"}


def module_name(layer: LayerSpec) -> str:
    """A row's module as LAYERS has it.

    Raises:
        ConfigError: there is none of that name.
    """
    name = layer.module.removeprefix("nn.")
    if name not in LAYERS:
        raise ConfigError(f"{layer.where}: unknown module {layer.module!r}{suggest(name, LAYERS)}")
    return name


def build_layer(row: RowContext) -> BuiltLayer:
    """Build the module of a row, repeated as it says.

    Raises:
        ConfigError: unknown module, or arguments its builder does not take.
    """
    name = module_name(row.layer)
    if len(row.in_channels) > 1 and name not in _READ_SEVERAL:
        raise ConfigError(
            f"{row.layer.where}: reads {len(row.in_channels)} layers, but {name} takes one; "
            "join them with Concat first"
        )
    if name in _REPEATS_INSIDE or row.repeats == 1:
        return _call(name, row)
    built = [_call(name, row)]
    for _ in range(row.repeats - 1):
        last = built[-1]
        inner = replace(row, in_channels=(last.out_channels,), in_strides=(last.stride,))
        built.append(_call(name, inner))
    chain = nn.Sequential(*(layer.module for layer in built))
    return replace(built[-1], module=chain)


def _call(name: str, row: RowContext) -> BuiltLayer:
    builder = LAYERS[name]
    try:
        inspect.signature(builder).bind(row, *row.layer.args)
    except TypeError:
        names = ", ".join(list(inspect.signature(builder).parameters)[1:])
        raise ConfigError(
            f"{row.layer.where}: args {list(row.layer.args)!r} do not fit {name}({names})"
        ) from None
    try:
        return builder(row, *row.layer.args)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise ConfigError(
            f"{row.layer.where}: args {list(row.layer.args)!r}: {first_line(error)}"
        ) from None
