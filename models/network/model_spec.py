"""The architecture as data: YOLOv5's yaml grammar, parsed and checked into a frozen ModelSpec.

Rows are `[from, number, module, args]`. Nothing in a yaml is evaluated. An unknown key or module is
an error that names the file, the row and the closest known name.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.architecture_names import REP_POLICIES
from utils.errors import ConfigError, suggest
from utils.strict_mapping import check_keys
from utils.strict_yaml import find_shipped, read_yaml

SPECS_FOLDER = Path(__file__).parent / "specs"
DEFAULT_ACTIVATION = "SiLU"
MAX_ANCHORS = 32  # of a level
STAND_IN_SIDES = (8.0, 400.0)  # pixels

NORM_KEYS = ("norm_eps", "norm_momentum")
_REQUIRED = ("nc", "depth_multiple", "width_multiple", "anchors", "backbone", "head")
_OPTIONAL = ("activation", "channel_multiple", "rep_block", "rep_policy", "ch", *NORM_KEYS)
MAX_NUMBER = 2.0**31  # what is larger names no size, and overflows in the arithmetic of sizes
MAX_REPEATS = 1000
_CONSTANTS = {"None": None, "True": True, "False": False}


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One row, as written: depth and width are scaled when the model is built.

    Attributes:
        index: position in the network; layer 0 reads the image.
        sources: indices of the layers it reads; -1 is the image.
        repeats: the row's `number`, before scaling.
        module: the row's module name.
        args: the row's arguments; text, numbers, None, or lists of them.
        where: file, part and row number, for messages.
    """

    index: int
    sources: tuple[int, ...]
    repeats: int
    module: str
    args: tuple[Any, ...]
    where: str


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The architecture of a network.

    Attributes:
        num_classes: classes the head predicts.
        depth_multiple: factor on the number of repeated blocks.
        width_multiple: factor on channels, rounded up to `channel_multiple`.
        anchors: per level, flat (w1, h1, w2, h2, ...) in pixels of the network input.
        anchors_from_data: they stand in for those that training will find (`anchors: 3`).
        backbone: rows `[from, number, module, args]` as in the yaml.
        head: likewise; the last row is Detect.
        activation: name and numbers, as `LeakyReLU(0.1)`.
        rep_block: family of the 3x3 convolutions, or None for plain ones.
        rep_policy: which 3x3 convolutions are of that family, one of REP_POLICIES.
        channel_multiple: channels are multiples of this.
        norm_eps: added to the variance by every batch-norm; None is the blocks' own, 0.001.
        norm_momentum: weight of a batch in the running statistics; None is the blocks' own, 0.03.
        name: the file it came from, for messages.
    """

    num_classes: int
    depth_multiple: float
    width_multiple: float
    anchors: tuple[tuple[float, ...], ...]
    backbone: tuple[tuple[Any, ...], ...]
    head: tuple[tuple[Any, ...], ...]
    activation: str = DEFAULT_ACTIVATION
    rep_block: str | None = None
    rep_policy: str = "all"
    channel_multiple: int = 8
    norm_eps: float | None = None
    norm_momentum: float | None = None
    name: str = "model"
    anchors_from_data: bool = False

    @classmethod
    def from_file(cls, name: str | Path) -> ModelSpec:
        """The spec in a yaml file, looked up in the working directory, then among the shipped ones.

        Raises:
            ConfigError: no such file, or a mistake in it.
        """
        path = find_shipped(name, SPECS_FOLDER)
        return cls.from_yaml(read_yaml(path), str(name))

    @classmethod
    def from_yaml(cls, content: Mapping[str, Any], where: str) -> ModelSpec:
        """The spec a yaml mapping describes; `where` names it in messages.

        Raises:
            ConfigError: unknown or missing key, or a value of the wrong kind.
        """
        check_keys(where, content, _REQUIRED, _OPTIONAL)
        if content.get("ch", 3) != 3:
            raise ConfigError(f"{where}: ch is {content['ch']!r}; images have 3 channels")
        rep_policy = content.get("rep_policy") or "all"
        if rep_policy not in REP_POLICIES:
            hint = suggest(str(rep_policy), REP_POLICIES)
            raise ConfigError(f"{where}: unknown rep_policy {rep_policy!r}{hint}")
        head = _rows(content["head"], f"{where}: head")
        from_data = type(content["anchors"]) is int
        anchors = _stand_ins(content, where, head) if from_data else content["anchors"]
        return cls(
            num_classes=_number(content, "nc", where, int),
            depth_multiple=_number(content, "depth_multiple", where, float),
            width_multiple=_number(content, "width_multiple", where, float),
            anchors=_anchors(anchors, where),
            backbone=_rows(content["backbone"], f"{where}: backbone"),
            head=head,
            activation=str(content.get("activation") or DEFAULT_ACTIVATION),
            rep_block=_optional_text(content.get("rep_block")),
            rep_policy=rep_policy,
            channel_multiple=_number(
                {"channel_multiple": 8, **content}, "channel_multiple", where, int
            ),
            **{key: _number(content, key, where, float) for key in NORM_KEYS if key in content},
            name=where,
            anchors_from_data=from_data,
        )

    def to_yaml(self) -> dict[str, Any]:
        """The mapping `from_yaml` reads back to an equal spec; plain JSON-able values.

        Keys of batch-norms are in it only where they are set, so that earlier versions read it.
        """
        norms = {key: getattr(self, key) for key in NORM_KEYS if getattr(self, key) is not None}
        return {
            "nc": self.num_classes,
            "depth_multiple": self.depth_multiple,
            "width_multiple": self.width_multiple,
            "channel_multiple": self.channel_multiple,
            "activation": self.activation,
            "rep_block": self.rep_block,
            "rep_policy": self.rep_policy,
            **norms,
            "anchors": len(self.anchors[0]) // 2
            if self.anchors_from_data
            else [list(level) for level in self.anchors],
            "backbone": [_plain(row) for row in self.backbone],
            "head": [_plain(row) for row in self.head],
        }

    def replaced(self, **changes: Any) -> ModelSpec:
        """A copy with other fields, e.g. `num_classes`, `anchors`, `activation`, `rep_block`."""
        return dataclasses.replace(self, **changes)

    def scaled_channels(self, channels: int) -> int:
        """Channels after width scaling; the width of the head's own output is never scaled."""
        num_anchors = len(self.anchors[0]) // 2
        if channels == num_anchors * (self.num_classes + 5):
            return channels
        multiple = self.channel_multiple
        return math.ceil(channels * self.width_multiple / multiple) * multiple

    @property
    def layers(self) -> tuple[LayerSpec, ...]:
        """All rows with absolute sources, backbone then head.

        Raises:
            ConfigError: a row reads a layer that is not before it.
        """
        parts = [("backbone", self.backbone), ("head", self.head)]
        rows = [(part, number, row) for part, rows in parts for number, row in enumerate(rows)]
        return tuple(
            self._layer(index, part, number, row) for index, (part, number, row) in enumerate(rows)
        )

    def repeats_of(self, layer: LayerSpec) -> int:
        """How many times a row's block is repeated, after depth scaling.

        Raises:
            ConfigError: more than MAX_REPEATS times.
        """
        repeats = layer.repeats
        if repeats > 1:
            repeats = max(round(min(repeats * self.depth_multiple, MAX_NUMBER)), 1)
        if repeats > MAX_REPEATS:
            raise ConfigError(
                f"{layer.where}: repeats its block {repeats} times, at most {MAX_REPEATS} are built"
            )
        return repeats

    def _layer(self, index: int, part: str, number: int, row: tuple[Any, ...]) -> LayerSpec:
        where = f"{self.name}: {part} row {number} (layer {index}, {row[2]})"
        sources = row[0] if isinstance(row[0], tuple) else (row[0],)
        absolute = tuple(index + source if source < 0 else source for source in sources)
        for source, given in zip(absolute, sources, strict=True):
            if not -1 <= source < index or (source == -1 and index > 0):
                raise ConfigError(f"{where}: from {given} is no layer before layer {index}")
        return LayerSpec(index, absolute, row[1], row[2], row[3], where)


def _number(content: Mapping[str, Any], key: str, where: str, kind: type) -> Any:
    value = content[key]
    allowed = (int, float) if kind is float else (int,)
    if isinstance(value, bool) or not isinstance(value, allowed) or not 0 < value < MAX_NUMBER:
        expected = "an integer" if kind is int else "a number"
        raise ConfigError(f"{where}: {key} is {value!r}, expected {expected} above 0")
    return kind(value)


def _optional_text(value: object) -> str | None:
    return None if value in (None, "None", "none", "") else str(value)


def _stand_ins(
    content: Mapping[str, Any], where: str, head: tuple[tuple[Any, ...], ...]
) -> list[list[float]]:
    """Squares of even spread for each level that the last row reads, smallest first."""
    count: int = content["anchors"]
    if not 0 < count <= MAX_ANCHORS:
        raise _wrong_anchors(count, where)
    levels = len(head[-1][0]) if isinstance(head[-1][0], tuple) else 1
    last = max(count * levels - 1, 1)
    low, high = STAND_IN_SIDES
    sides = [low * (high / low) ** (index / last) for index in range(count * levels)]
    flat = [side for each in sides for side in (each, each)]
    return [flat[2 * count * level : 2 * count * (level + 1)] for level in range(levels)]


def _wrong_anchors(value: object, where: str) -> ConfigError:
    return ConfigError(
        f"{where}: anchors is {value!r}, expected per level a list `[w1,h1, w2,h2, ...]` in "
        f"pixels, or how many (up to {MAX_ANCHORS}) each level gets of those found in the data"
    )


def _anchors(value: object, where: str) -> tuple[tuple[float, ...], ...]:
    refusal = _wrong_anchors(value, where)
    if not isinstance(value, list) or not value:
        raise refusal
    levels = []
    for level in value:
        if not isinstance(level, list) or not level or len(level) % 2:
            raise refusal
        if not all(type(side) in (int, float) and 0 < side < MAX_NUMBER for side in level):
            raise refusal
        levels.append(tuple(float(side) for side in level))
    if len({len(level) for level in levels}) > 1:
        raise refusal
    return tuple(levels)


def _rows(value: object, where: str) -> tuple[tuple[Any, ...], ...]:
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{where} is {value!r}, expected rows `[from, number, module, args]`")
    return tuple(_row(row, f"{where} row {number}") for number, row in enumerate(value))


def _row(row: object, where: str) -> tuple[Any, ...]:
    if not isinstance(row, list) or len(row) != 4:
        raise ConfigError(f"{where} is {row!r}, expected `[from, number, module, args]`")
    source, repeats, module, args = row
    sources = source if isinstance(source, list) else [source]
    if not sources or not all(type(index) is int for index in sources):
        raise ConfigError(f"{where}: from is {source!r}, expected a layer number or a list of them")
    if type(repeats) is not int or not 1 <= repeats < MAX_NUMBER:
        raise ConfigError(f"{where}: number is {repeats!r}, expected an integer of at least 1")
    if not isinstance(module, str):
        raise ConfigError(f"{where}: module is {module!r}, expected a name")
    if not isinstance(args, list):
        raise ConfigError(f"{where}: args is {args!r}, expected a list")
    return (tuple(source) if isinstance(source, list) else source, repeats, module, _frozen(args))


def _frozen(args: list[Any]) -> tuple[Any, ...]:
    """Lists as tuples; "None", "True" and "False", which yaml reads as text, as values."""
    return tuple(
        _frozen(arg)
        if isinstance(arg, list)
        else _CONSTANTS.get(arg, arg)
        if isinstance(arg, str)
        else arg
        for arg in args
    )


def _plain(row: tuple[Any, ...]) -> list[Any]:
    return [_plain(item) if isinstance(item, tuple) else item for item in row]
