"""What training and evaluation ask of a loss, whatever it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from utils.batches import Batch


class Loss(Protocol):
    """The loss of one batch."""

    @property
    def total(self) -> Tensor:
        """() what to differentiate."""

    def parts(self) -> Tensor:
        """(3,) box, objectness, class, without gradient."""


class Criterion(Protocol):
    """Compares raw predictions with labels."""

    def __call__(self, raw_predictions: Sequence[Tensor], batch: Batch, /) -> Loss:
        """The loss of one batch; its labels may be on the host still."""
