"""Flags as fields of frozen dataclasses: what each one takes, and checking that it got it."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Collection, Mapping
from typing import Any, Literal

from utils.errors import ConfigError, suggest
from utils.logs import flag_of

PathUse = Literal["weights", "file", "folder", "file or folder"]


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Which numbers a flag takes; NaN is never one where there is a minimum or a maximum.

    Attributes:
        minimum: the lowest one; None for any.
        maximum: the highest one; None for any.
        besides: others, with a meaning of their own (-1 for "measure").
        max_values: how many may be given at most; None for any number of them.
    """

    minimum: float | None = None
    maximum: float | None = None
    besides: tuple[float, ...] = ()
    max_values: int | None = None

    @property
    def are_set(self) -> bool:
        """Whether the flag takes numbers."""
        return self.minimum is not None or self.maximum is not None

    def allow(self, value: float) -> bool:
        """Whether one number is among them."""
        not_below = self.minimum is None or value >= self.minimum
        not_above = self.maximum is None or value <= self.maximum
        return value in self.besides or (not_below and not_above)

    def as_text(self) -> str:
        """`at least 1, or -1`."""
        if self.maximum is None:
            text = f"at least {self.minimum:g}"
        elif self.minimum is None:
            text = f"at most {self.maximum:g}"
        else:
            text = f"from {self.minimum:g} to {self.maximum:g}"
        return ", or ".join([text, *(f"{value:g}" for value in self.besides)])


@dataclasses.dataclass(frozen=True, slots=True)
class Choices:
    """Which names a flag takes.

    Attributes:
        names: those.
        may_call: a name may be followed by arguments, as in `LeakyReLU(0.1)`.
        instead: other names that users try -> the sentence that says what to do instead.
    """

    names: Collection[str]
    may_call: bool = False
    instead: Mapping[str, str] | None = None

    def check(self, flag: str, text: str) -> None:
        """Refuse a name that is not among them.

        Raises:
            ConfigError: naming the closest one.
        """
        name = text
        if self.may_call:
            name = text.partition("(")[0].strip().removeprefix("torch.").removeprefix("nn.")
        if self.instead and name in self.instead:
            raise ConfigError(f"{flag} {text}: {self.instead[name]}")
        if name not in self.names:
            hint = suggest(name, self.names, "choices")
            raise ConfigError(f"{flag} {text}: no such choice{hint}")


@dataclasses.dataclass(frozen=True, slots=True)
class PathRule:
    """What a flag's path is for.

    Attributes:
        use: "weights" are read, the others are written.
        beside: the field beside whose file an empty path is written.
        required: the error where the flag is not given.
        unless: fields; where one of them is given, this one is neither needed nor written.
    """

    use: PathUse
    beside: str = ""
    required: str = ""
    unless: tuple[str, ...] = ()


def option(
    default: Any,
    help_text: str,
    *aliases: str,
    const: Any = None,
    minimum: float | None = None,
    maximum: float | None = None,
    besides: tuple[float, ...] = (),
    max_values: int | None = None,
    rule: Choices | PathRule | None = None,
) -> Any:
    """A dataclass field that is also a flag.

    Args:
        default: what the flag is when it is not given.
        help_text: one line for `--help`.
        *aliases: other spellings, with their dashes (`"--img"`).
        const: what the bare flag means, for flags whose value may be omitted (`--resume`).
        minimum: the lowest number allowed; every flag with numbers has one.
        maximum: the highest number allowed.
        besides: numbers outside of these that are allowed too.
        max_values: how many numbers may be given.
        rule: of text: the names allowed, or what a path is for.
    """
    if isinstance(rule, Choices):
        help_text = f"{help_text}: {', '.join(rule.names)}"
    limits = Limits(minimum, maximum, besides, max_values)
    metadata = {"help": help_text, "aliases": aliases, "const": const, "limits": limits}
    return dataclasses.field(default=default, metadata={**metadata, "rule": rule})


def check_values(config: Any) -> None:
    """Refuse numbers outside their limits, and names that are no choice.

    Raises:
        ConfigError: naming the flag and what it takes.
    """
    for field, values in options_of(config):
        limits: Limits = field.metadata["limits"]
        flag = flag_of(field.name)
        given = f"{flag} {' '.join(map(str, values))}"
        if limits.max_values is not None and len(values) > limits.max_values:
            raise ConfigError(f"{given}: expected {limits.max_values} numbers at most")
        for each in values:
            if isinstance(field.metadata["rule"], Choices) and each:
                field.metadata["rule"].check(flag, each)
            elif limits.are_set and not isinstance(each, numbers.Real):
                raise ConfigError(f"{given}: must be a number, {limits.as_text()}")
            elif isinstance(each, numbers.Real) and not limits.allow(float(each)):
                raise ConfigError(f"{given}: must be {limits.as_text()}")


def options_of(config: Any) -> list[tuple[Any, tuple[Any, ...]]]:
    """The fields of a config, each with its values: none, one or several."""
    pairs = [(field, getattr(config, field.name)) for field in dataclasses.fields(config)]
    return [
        (field, tuple(value) if isinstance(value, tuple | list) else (value,) * (value is not None))
        for field, value in pairs
    ]
