"""Whether a network and a data set mean the same by a class id."""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_CLASSES_SHOWN = 3
_UNNAMED = re.compile(r"(class[ _-]?)?\d+|object|item")  # by a program, in want of a name


def classes_that_differ(known: Sequence[str], wanted: Sequence[str]) -> str:
    """The first classes with another name, letter case aside; empty where there is none.

    Args:
        known: to a network, in class-id order; a name that says nothing differs from none.
        wanted: those of a data set.
    """
    other = [
        f"{index} {name}, here {other_name}"
        for index, (name, other_name) in enumerate(zip(known, wanted, strict=False))
        if name.casefold() != other_name.casefold() and not _UNNAMED.fullmatch(name)
    ]
    more = len(other) - MAX_CLASSES_SHOWN
    return "; ".join(other[:MAX_CLASSES_SHOWN]) + (f"; and {more} more" if more > 0 else "")
