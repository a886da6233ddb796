"""One dataclass's values for another one that has some of the same fields."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

TargetT = TypeVar("TargetT")


def shared_fields(source: Any, target: type[TargetT], **others: Any) -> TargetT:
    """A `target` with the fields it shares with `source`, and `others`, which come first.

    Both are dataclasses.
    """
    mine = {field.name: getattr(source, field.name) for field in dataclasses.fields(source)}
    names = {field.name for field in dataclasses.fields(target)}  # type: ignore[arg-type]
    return target(**{**{name: mine[name] for name in names & mine.keys()}, **others})
