"""What flags take: which numbers, which names, and what a path is for."""

from __future__ import annotations

import dataclasses
import numbers
import os
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, Literal

from utils.call_text import parse_call
from utils.errors import ConfigError, suggest

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

    def check(self, given: str, value: object, *, whole: bool) -> None:
        """Refuse what is no number, and one that is not among them.

        Args:
            given: the flag and its values, for messages.
            value: one of them; True and False are no numbers.
            whole: whether it must be an integer, of Python or of numpy.

        Raises:
            ConfigError: it is refused.
        """
        kind, name = (numbers.Integral, "an integer") if whole else (numbers.Real, "a number")
        limits = "" if self.minimum is self.maximum is None else f", {self.as_text()}"
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ConfigError(f"{given}: must be {name}{limits}")
        if not self.allow(float(value)):
            raise ConfigError(f"{given}: must be {self.as_text()}")

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
            text = f"at most {self.maximum:.12g}"
        else:
            text = f"from {self.minimum:g} to {self.maximum:.12g}"
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
            ConfigError: naming the closest one, or text that is no name with arguments.
        """
        name = parse_call(text, flag).name if self.may_call else text
        if self.instead and name in self.instead:
            raise ConfigError(f"{flag} {text}: {self.instead[name]}")
        if name not in self.names:
            hint = suggest(name, self.names, "choices")
            raise ConfigError(f"{flag} {text}: no such choice{hint}")


@dataclasses.dataclass(frozen=True, slots=True)
class DeviceRule:
    """`cpu`, `mps`, GPU numbers as `0,1`, or empty; which of them there are is seen later."""

    def check(self, flag: str, text: str) -> None:
        """Refuse what names no device.

        Raises:
            ConfigError: saying what does.
        """
        word = device_word(text)
        if word in ("", "cpu", "mps") or all(part.isdecimal() for part in word.split(",")):
            return
        raise ConfigError(f"{flag} {text}: expected cpu, mps, or a GPU number like 0")


@dataclasses.dataclass(frozen=True, slots=True)
class FreeName:
    """A file in the run's folder that the run does not write anyway, or `-`.

    Attributes:
        taken: names of files in that folder.
    """

    taken: Collection[str]

    def check(self, flag: str, text: str) -> None:
        """Refuse the name of another file of the run, however it is written.

        Raises:
            ConfigError: saying so.
        """
        name = os.path.normpath(text)
        if name in self.taken:
            raise ConfigError(
                f"{flag} {text}: {name} is another file of the run; choose another name"
            )


def device_word(text: str) -> str:
    """`cuda:1` and ` 1` are `1`; `cuda`, torch's name of the first GPU, is `0`."""
    word = text.strip().lower()
    return "0" if word == "cuda" else word.removeprefix("cuda:")


@dataclasses.dataclass(frozen=True, slots=True)
class PathRule:
    """What a flag's path is for.

    Attributes:
        use: "weights" are read, the others are written.
        beside: the field beside whose file an empty path is written.
        required: the error where the flag is not given.
        unless: fields; where one of them is given, this one is neither needed nor written.
        suffixes: what the name of a file to write may end in; empty for anything.
    """

    use: PathUse
    beside: str = ""
    required: str = ""
    unless: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()


def single_types(hint: Any) -> set[type]:
    """Of which types one value of a flag is: `tuple[int, ...] | int | None` -> {int}."""
    if hint is types.NoneType or hint is Ellipsis:
        return set()
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is tuple:
        return set().union(*map(single_types, typing.get_args(hint)))
    return {hint}
