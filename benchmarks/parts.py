"""Where the time of a call goes: the seconds of the functions in it, by Python's own profiler."""

from __future__ import annotations

import cProfile
import inspect
import pstats
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Location = tuple[str, int, str]


def seconds_in(
    work: Callable[[], object], functions: Mapping[str, Callable[..., Any]]
) -> dict[str, float]:
    """Seconds that a call spends in functions, with all that they call.

    The profiler counts every call, so that work made of many small ones looks slower than it is.

    Args:
        work: is called once.
        functions: written in Python; by the names of the result.

    Returns:
        By the same names; 0 for a function that was not called.
    """
    profiler = cProfile.Profile()
    profiler.runcall(work)
    return _seconds(pstats.Stats(profiler), functions)


def seconds_in_file(profile: Path, functions: Mapping[str, Callable[..., Any]]) -> dict[str, float]:
    """`seconds_in`, of what another process has written with `cProfile.Profile.dump_stats`."""
    return _seconds(pstats.Stats(str(profile)), functions)


def _seconds(found: pstats.Stats, functions: Mapping[str, Callable[..., Any]]) -> dict[str, float]:
    entries = found.stats  # type: ignore[attr-defined]  # not in the stubs
    totals = {location: entry[3] for location, entry in entries.items()}
    return {name: totals.get(_location(each), 0.0) for name, each in functions.items()}


def _location(function: Callable[..., Any]) -> Location:
    """How the profiler names a function."""
    code = inspect.unwrap(function).__code__
    return code.co_filename, code.co_firstlineno, code.co_name
