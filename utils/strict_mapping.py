"""Mappings read strictly: from yaml, from keyword arguments, into dataclasses and back.

Every mistake is a ConfigError that names the key, what was found, and what is allowed.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from utils.errors import ConfigError, suggest

ConfigT = TypeVar("ConfigT")
_WITH_EXPONENT = re.compile(r"[-+]?\d+e[-+]?\d+", re.IGNORECASE)  # text for yaml 1.1, as PyYAML is


def check_keys(
    where: str, content: Mapping[str, Any], required: Iterable[str], optional: Iterable[str] = ()
) -> None:
    """Refuse unknown and missing keys.

    Raises:
        ConfigError: naming the key, with a suggestion.
    """
    required = list(required)
    allowed = [*required, *optional]
    for key in content:
        if key not in allowed:
            raise ConfigError(f"{where}: unknown key {key!r}{suggest(str(key), allowed)}")
    for key in required:
        if key not in content:
            raise ConfigError(f"{where}: key {key!r} is missing")


def to_dataclass(where: str, content: Mapping[str, Any], target: type[ConfigT]) -> ConfigT:
    """A frozen dataclass of numbers, strings and flags from a mapping.

    Args:
        where: the file, for messages.
        content: key -> value; keys without a default in `target` are required.
        target: the dataclass.

    Raises:
        ConfigError: unknown or missing key, wrong type.
    """
    fields = {field.name: field for field in dataclasses.fields(target)}  # type: ignore[arg-type]
    required = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    check_keys(where, content, required, [name for name in fields if name not in required])
    hints = typing.get_type_hints(target)
    values = {key: _checked(f"{where}: {key}", value, hints[key]) for key, value in content.items()}
    return _made(where, target, values)


def from_flat(where: str, content: Mapping[str, Any], target: type[ConfigT]) -> ConfigT:
    """A frozen dataclass, some of whose fields are dataclasses, from a mapping without levels.

    Args:
        where: the file, for messages.
        content: field name -> value, of the dataclass and of those in it; names are different.
        target: the dataclass; every field in it and below has a default.

    Raises:
        ConfigError: unknown key, wrong type.
    """
    hints = typing.get_type_hints(target)
    parts = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    names = {
        name: [field.name for field in dataclasses.fields(parts[name])] if name in parts else [name]
        for name in hints
    }
    check_keys(where, content, (), [each for group in names.values() for each in group])
    values: dict[str, Any] = {}
    for name, hint in hints.items():
        given = {key: content[key] for key in names[name] if key in content}
        if name in parts:
            values[name] = to_dataclass(where, given, hint)
        elif given:
            values[name] = _checked(f"{where}: {name}", given[name], hint)
    return _made(where, target, values)


def _made(where: str, target: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
    try:
        return target(**values)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def to_flat(config: Any) -> dict[str, Any]:
    """What `from_flat` reads, in the order of fields: plain values that yaml and JSON can hold."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            flat.update(to_flat(value))
        else:
            flat[field.name] = list(value) if isinstance(value, tuple) else value
    return flat


def check_limits(config: Any, **limits: tuple[float, float]) -> None:
    """Refuse numbers of a dataclass outside of limits, which are allowed; infinity never is.

    Args:
        config: the dataclass.
        **limits: field -> lowest and highest value; a highest one of infinity is none.

    Raises:
        ValueError: naming the field.
    """
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        if not (low <= value <= high and math.isfinite(value)):
            rule = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            raise ValueError(f"{name} is {value!r}, must be {rule}")


def _checked(where: str, value: object, hint: Any) -> object:
    """`value` if it is of the hinted type; an int serves as a float, and so does `1e-3`."""
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if float in allowed and isinstance(value, str) and _WITH_EXPONENT.fullmatch(value):
        return float(value)
    if type(value) in allowed:
        return value
    expected = " or ".join(getattr(kind, "__name__", str(kind)) for kind in allowed)
    raise ConfigError(f"{where} is {value!r} ({type(value).__name__}), expected {expected}")
