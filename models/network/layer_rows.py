"""What a row of a model yaml becomes: the context of a builder, and the builders of YOLOv5's rows.

A builder takes the row's context, and the row's arguments by position as in the yaml; its signature
is the grammar of the row. Layers of other origins are in modules of their own, each with its table
ROWS; `layer_registry` joins them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from torch import nn

from models.network.layers import (
    C3,
    SPPF,
    Bottleneck,
    Concat,
    ConvFactory,
    DetectHead,
    activation_maker,
)
from models.network.model_spec import MAX_NUMBER, LayerSpec, ModelSpec
from models.reparam.families import FAMILIES
from models.reparam.rep_block import ConvGeometry
from utils.errors import ConfigError


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

    def built(self, module: nn.Module, out_channels: int, downsampling: int = 1) -> BuiltLayer:
        """The row's module; its stride is `downsampling` times that of the first source."""
        return BuiltLayer(module, out_channels, self.in_strides[0] * downsampling)

    def scaled_channels(self, channels: int) -> int:
        """As ModelSpec.scaled_channels.

        Raises:
            ConfigError: they are no integer above 0.
        """
        self.check_integers(out=channels)
        return self.spec.scaled_channels(channels)

    def geometry(
        self,
        out: int,
        k: int | Sequence[int],
        s: int,
        p: int | None = None,
        g: int = 1,
        d: int = 1,
    ) -> ConvGeometry:
        """Of a convolution on the first source, `out` channels before width scaling.

        Raises:
            ConfigError: one of the numbers is no integer in its range.
        """
        # ultralytics/yolov3 writes [1, 1].
        side: Any = k[0] if isinstance(k, Sequence) and len(k) == 2 and k[0] == k[1] else k
        self.check_integers(out=out, k=side, s=s, g=g, d=d)
        if p is not None:
            self.check_integers(minimum=0, p=p)
        return ConvGeometry(self.in_channels[0], self.scaled_channels(out), side, s, p, g, d)

    def activated(self, act: str) -> ConvFactory:
        """The factory with an activation of the row's own, e.g. `LeakyReLU(0.1)`.

        Raises:
            ConfigError: there is none of that name.
        """
        if not isinstance(act, str):
            raise self.refusal("act", act, "an activation, as `ReLU`")
        return replace(self.conv, activation=activation_maker(act, self.layer.where))

    def check_integers(self, minimum: int = 1, **values: object) -> None:
        """Refuse what is no integer of at least `minimum`; keys are the arguments' names."""
        for name, value in values.items():
            if type(value) is not int or not minimum <= value < MAX_NUMBER:
                raise self.refusal(name, value, f"an integer of at least {minimum}")

    def check_odd(self, **values: int) -> None:
        """Refuse what is no odd integer above 0."""
        self.check_integers(**values)
        for name, value in values.items():
            if value % 2 == 0:
                raise self.refusal(name, value, "an odd number")

    def check_flag(self, name: str, value: object) -> None:
        """Refuse what is neither True nor False."""
        if type(value) is not bool:
            raise self.refusal(name, value, "True or False")

    def check_one_of(self, name: str, value: object, known: tuple[object, ...]) -> None:
        """Refuse what is none of `known`."""
        if value not in known:
            raise self.refusal(name, value, f"one of {', '.join(map(str, known))}")

    def check_expansion(self, channels: int, e: float) -> None:
        """Refuse a factor that leaves none of `channels`."""
        is_number = isinstance(e, int | float) and not isinstance(e, bool)
        if not is_number or not 1 <= channels * e < math.inf:
            expected = f"a factor that leaves at least one of {channels} channels"
            raise self.refusal("e", e, expected)

    def check_sizes(self, **values: object) -> None:
        """Refuse what is no list of odd integers above 0."""
        for name, value in values.items():
            if not isinstance(value, tuple) or not value:
                raise self.refusal(name, value, "a list of odd numbers")
            for size in value:
                self.check_odd(**{name: size})

    def check_halves(self, channels: int) -> None:
        """Refuse a map without channels to halve, as pyramid pooling does."""
        if channels < 2:
            raise self.refusal("from", f"a map of {channels} channel", "one of 2 or more")

    def chained_pool_size(self, sizes: object) -> int:
        """The pool that, chained, equals pools of these sizes side by side.

        Raises:
            ConfigError: they are not [k, 2k - 1, 3k - 2].
        """
        first = sizes[0] if isinstance(sizes, tuple) and sizes else None
        if type(first) is not int or sizes != (first, 2 * first - 1, 3 * first - 2):
            raise self.refusal("k", sizes, "[k, 2k - 1, 3k - 2], as 5 9 13")
        self.check_odd(k=first)
        return first

    def check_csp(self, out: int, shortcut: bool, g: int, e: float) -> int:
        """Check the arguments that Bottleneck, C3 and their kin share.

        Returns:
            The output channels, after width scaling.

        Raises:
            ConfigError: one of them is wrong.
        """
        self.check_integers(out=out, g=g)
        self.check_flag("shortcut", shortcut)
        channels = self.scaled_channels(out)
        self.check_expansion(channels, e)
        return channels

    def refusal(self, name: str, value: object, expected: str) -> ConfigError:
        """The error that names the row, an argument, its value and the rule."""
        return ConfigError(f"{self.layer.where}: {name} is {value!r}, expected {expected}")


@dataclass(frozen=True, slots=True)
class BuiltLayer:
    """A module, its number of output channels, and its stride in input pixels per cell."""

    module: nn.Module
    out_channels: int
    stride: Fraction


RowBuilder = Callable[..., BuiltLayer]


@dataclass(frozen=True, slots=True)
class LayerRow:
    """How rows of one name are built.

    Attributes:
        build: from the context and the row's arguments.
        repeats_inside: the block takes the repeats itself; others are chained.
        reads_several: its module is a Join.
    """

    build: RowBuilder
    repeats_inside: bool = False
    reads_several: bool = False


def _conv(
    row: RowContext,
    out: int,
    k: int | Sequence[int] = 1,
    s: int = 1,
    p: int | None = None,
    g: int = 1,
    d: int | bool | str = 1,
    act: bool | str = True,
) -> BuiltLayer:
    """`act` may name an activation; YOLOv5 before v6.2 and YOLOv7 have it in the place of `d`."""
    dilation, act = (1, d) if isinstance(d, bool | str) else (d, act)
    geometry = row.geometry(out, k, s, p, g, dilation)
    if isinstance(act, str):
        return row.built(row.activated(act)(geometry), geometry.out_channels, s)
    if type(act) is not bool:
        raise row.refusal("act", act, "True, False, or an activation, as `ReLU`")
    return row.built(row.conv(geometry, act=act), geometry.out_channels, s)


def _rep_row(family: str) -> LayerRow:
    def build(
        row: RowContext, out: int, k: int = 3, s: int = 1, p: int | None = None, g: int = 1
    ) -> BuiltLayer:
        geometry = row.geometry(out, k, s, p, g)
        return row.built(row.conv.block(FAMILIES[family], geometry), geometry.out_channels, s)

    return LayerRow(build)


def csp_row(block: Callable[..., nn.Module], *, adds_input: bool = True) -> LayerRow:
    """The row of C3 or a relative: a block of its parameters.

    Args:
        block: of the layer.
        adds_input: the default of `shortcut`.
    """

    def build(
        row: RowContext, out: int, shortcut: bool = adds_input, g: int = 1, e: float = 0.5
    ) -> BuiltLayer:
        channels = row.check_csp(out, shortcut, g, e)
        module = block(
            row.in_channels[0],
            channels,
            repeats=row.repeats,
            shortcut=shortcut,
            groups=g,
            expansion=e,
            conv=row.conv,
        )
        return row.built(module, channels)

    return LayerRow(build, repeats_inside=True)


def _bottleneck(
    row: RowContext, out: int, shortcut: bool = True, g: int = 1, e: float = 0.5
) -> BuiltLayer:
    channels = row.check_csp(out, shortcut, g, e)
    module = Bottleneck(
        row.in_channels[0], channels, shortcut=shortcut, groups=g, expansion=e, conv=row.conv
    )
    return row.built(module, channels)


def _sppf(row: RowContext, out: int, k: int = 5) -> BuiltLayer:
    row.check_odd(k=k)
    row.check_halves(row.in_channels[0])
    channels = row.scaled_channels(out)
    return row.built(SPPF(row.in_channels[0], channels, k, conv=row.conv), channels)


def _upsample(
    row: RowContext, size: None = None, scale: int = 2, mode: str = "nearest"
) -> BuiltLayer:
    if size is not None:
        raise ConfigError(f"{row.layer.where}: size is {size!r}; give None and a scale factor")
    row.check_integers(scale=scale)
    row.check_one_of("mode", mode, ("nearest", "bilinear", "bicubic"))
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
    for stride in row.in_strides:
        if stride.denominator != 1:
            raise ConfigError(f"{row.layer.where}: reads a map of {1 / stride} cells per pixel, "
                              "expected one cell for one or more pixels")  # fmt: skip
    num_anchors = len(row.spec.anchors[0]) // 2
    module = DetectHead(row.in_channels, num_anchors, row.spec.num_classes)
    return BuiltLayer(module, 0, row.in_strides[0])


ROWS: dict[str, LayerRow] = {
    "Conv": LayerRow(_conv),
    "Bottleneck": LayerRow(_bottleneck),
    "C3": csp_row(C3),
    "SPPF": LayerRow(_sppf),
    "Concat": LayerRow(_concat, reads_several=True),
    "Upsample": LayerRow(_upsample),
    "Detect": LayerRow(_detect, reads_several=True),
    **{family: _rep_row(family) for family in FAMILIES},
}
