"""Many small cases in one test: where a law takes a millisecond, its own test takes several."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

Case = TypeVar("Case")


def all_of(**values: Iterable[Any]) -> dict[str, tuple[Any, ...]]:
    """Every combination of some values, with a name that says them."""
    return {
        ", ".join(f"{name} {value}" for name, value in zip(values, chosen, strict=True)): chosen
        for chosen in itertools.product(*values.values())
    }


def for_all(
    cases: Mapping[str, Case],
) -> Callable[[Callable[[Case], None]], Callable[[], None]]:
    """Make one test of a function that takes a case; it names all cases that do not hold.

    Raises:
        AssertionError: there are no cases.
    """
    assert cases

    def decorator(holds: Callable[[Case], None]) -> Callable[[], None]:
        def test() -> None:
            failed: dict[str, AssertionError] = {}
            for name, case in cases.items():
                try:
                    holds(case)
                except AssertionError as error:
                    failed[name] = error
                except Exception as error:
                    raise AssertionError(f"case {name!r}") from error
            if failed:
                first = next(iter(failed.values()))
                lines = [f"{len(failed)} of {len(cases)} cases:", *failed, f"The first: {first}"]
                raise AssertionError("\n".join(lines)) from first

        for name in ("__name__", "__qualname__", "__doc__", "__module__"):
            setattr(test, name, getattr(holds, name))
        return test

    return decorator
