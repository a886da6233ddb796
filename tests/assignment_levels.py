"""An assignment level by level."""

from __future__ import annotations

import torch

from models.losses.assign import Assignment


def levels_of(found: Assignment) -> tuple[Assignment, ...]:
    """The pairs of each level, finest first."""
    indices = torch.split(found.indices, list(found.pairs), 1)
    numbers = torch.split(found.numbers, list(found.pairs))
    return tuple(
        Assignment((len(each),), index, each) for index, each in zip(indices, numbers, strict=True)
    )
