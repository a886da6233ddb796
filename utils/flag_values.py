"""Values of flags that are given from Python: made plain, and checked as the command line's are."""

from __future__ import annotations

import dataclasses
import numbers
import os
import reprlib
import types
import typing
from typing import Any

from utils.errors import ConfigError
from utils.flag_rules import Choices, DeviceRule, FreeName, Limits, single_types
from utils.logs import flag_of

_PYTHONS: frozenset[type] = frozenset({bool, int, float})


@dataclasses.dataclass(frozen=True, slots=True)
class Flags:
    """Base of a config: a value given from Python becomes what the command line would give.

    A path becomes text, a number of numpy or torch Python's, a list or array a tuple, and a number,
    where a flag takes text, its digits (`device=0`). One value, where a flag takes several alone,
    becomes a tuple.
    """

    def __post_init__(self) -> None:
        """Replace the values of the fields."""
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            plain = _plain(value, single_types(hints[field.name]))
            if not isinstance(plain, tuple | list | None) and _is_tuple(hints[field.name]):
                plain = (plain,)
            if plain is not value:
                object.__setattr__(self, field.name, plain)


def _plain(value: Any, kinds: set[type]) -> Any:
    if getattr(value, "ndim", None) in (0, 1):  # a number or numbers of numpy or torch
        value = value.tolist()
    if isinstance(value, tuple | list):
        return tuple(_plain(each, kinds) for each in value)
    if isinstance(value, os.PathLike):
        path = os.fspath(value)
        return path if isinstance(path, str) else value
    if isinstance(value, numbers.Real) and type(value) not in _PYTHONS:
        value = int(value) if isinstance(value, numbers.Integral) else float(value)
    if type(value) is int and kinds == {str}:
        return str(value)
    return value


def _members(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _takes_several(hint: Any) -> bool:
    return any(typing.get_origin(each) is tuple for each in _members(hint))


def _is_tuple(hint: Any) -> bool:
    """Whether a value is a tuple always, or nothing."""
    rest = [each for each in _members(hint) if each is not types.NoneType]
    return all(typing.get_origin(each) is tuple for each in rest)


def options_of(config: Any) -> list[tuple[Any, tuple[Any, ...]]]:
    """The fields of a config, each with its values: none, one or several."""
    pairs = [(field, getattr(config, field.name)) for field in dataclasses.fields(config)]
    return [
        (field, tuple(value) if isinstance(value, tuple | list) else (value,) * (value is not None))
        for field, value in pairs
    ]


def check_kind(config: object, kind: type) -> None:
    """Refuse what a program gives instead of a config of its kind.

    Raises:
        ConfigError: naming both.
    """
    if not isinstance(config, kind):
        raise ConfigError(f"the config is {reprlib.repr(config)}, expected {kind.__name__}(...)")


def check_values(config: Any) -> None:
    """Refuse numbers outside their limits, names that are no choice, and values of another type.

    Raises:
        ConfigError: naming the flag and what it takes.
    """
    hints = typing.get_type_hints(type(config))
    for field, values in options_of(config):
        limits: Limits = field.metadata["limits"]
        hint = hints[field.name]
        flag, kinds = flag_of(field.name), single_types(hint)
        given = f"{flag} {' '.join(map(str, values))}"
        if getattr(config, field.name) is None and types.NoneType not in _members(hint):
            raise ConfigError(f"{flag} None: leave it out for its default")
        if getattr(config, field.name) == () and (field.default == "" or not _takes_several(hint)):
            raise ConfigError(f"{flag}: is empty; leave it out for its default")
        if len(values) > 1 and not _takes_several(hint):
            raise ConfigError(f"{given}: expected one value")
        if limits.max_values is not None and len(values) > limits.max_values:
            raise ConfigError(f"{given}: expected {limits.max_values} numbers at most")
        rule = field.metadata["rule"]
        if isinstance(rule, Choices) and not values and field.default:
            raise ConfigError(f"{flag}: is empty; name one or more")
        for each in values:
            _check_value(f"{given}: must be", each, kinds, rule)
            if isinstance(rule, Choices | DeviceRule | FreeName) and (each or field.default != ""):
                rule.check(flag, each)
            elif kinds in ({int}, {float}):
                limits.check(given, each, whole=kinds == {int})


def _check_value(start: str, value: object, kinds: set[type], rule: object) -> None:
    """Refuse what is no text, and what is no truth value, where a flag takes such."""
    if (isinstance(rule, Choices) or kinds == {str}) and not isinstance(value, str):
        raise ConfigError(f"{start} text, is of type {type(value).__name__}")
    if kinds == {bool} and not isinstance(value, bool):
        raise ConfigError(f"{start} True or False")
