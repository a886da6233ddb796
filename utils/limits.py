"""Which numbers a flag takes."""

from __future__ import annotations

import dataclasses


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
