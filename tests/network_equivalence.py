"""How far two whole networks are from each other: a slow reference for the equivalence check."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.conversion.block_report import BlockReport, block_reports
from models.conversion.deploy import Maps, relative_error


def equivalence_error(model: nn.Module, other: nn.Module, inputs: Sequence[Tensor]) -> float:
    """The worst `relative_error` of the raw predictions; each network in its weights' dtype."""
    maps = zip(raw_maps(model, inputs), raw_maps(other, inputs), strict=True)
    return max(relative_error(*pair) for pair in maps)


@torch.no_grad()
def raw_maps(model: nn.Module, inputs: Sequence[Tensor]) -> list[Maps]:
    """The raw predictions of each input, in the dtype of the weights."""
    weights = next(model.parameters())
    return [model(x.to(weights.device, weights.dtype)) for x in inputs]


def network_reports(before: nn.Module, after: nn.Module) -> list[BlockReport]:
    """A report for every block of two float64 networks."""
    return block_reports(before, after, "", torch.Generator().manual_seed(0))
