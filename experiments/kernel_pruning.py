"""Pruning of trained 3x3 kernels: weights of a region are set to zero at random."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.conversion.deploy import to_deploy
from utils.checkpoint import save_checkpoint

# Taps of a 3x3 kernel: the cross through its centre, and the rest.
REGIONS = {
    "corners": ((1, 0, 1), (0, 0, 0), (1, 0, 1)),
    "skeleton": ((0, 1, 0), (1, 1, 1), (0, 1, 0)),
    "anywhere": ((1, 1, 1), (1, 1, 1), (1, 1, 1)),
}
PRUNED_SHARES = (0.05, 0.1, 0.2, 0.3)  # of all weights of all 3x3 kernels


@torch.no_grad()
def prune(model: nn.Module, region: str, share: float) -> None:
    """Set `share` of each layer's 3x3 weights to zero in place, at random within `region`.

    Raises:
        ValueError: the region has fewer weights than that.
    """
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if not isinstance(module, nn.Conv2d) or module.kernel_size != (3, 3):
            continue
        taps = torch.tensor(REGIONS[region])
        indices = taps.expand_as(module.weight).flatten().nonzero()[:, 0]
        count = round(share * module.weight.numel())
        if count > len(indices):
            raise ValueError(f"{region} hold less than {share:.0%} of the weights")
        chosen = indices[torch.randperm(len(indices), generator=generator)[:count]]
        module.weight.view(-1)[chosen] = 0


def save_pruned(weights: Path, output: Path, region: str, share: float) -> None:
    """Write the deploy form of a checkpoint, pruned by `prune`."""
    checkpoint = read_weights(weights)
    model = to_deploy(build_from_checkpoint(checkpoint))
    prune(model, region, share)
    save_checkpoint(
        output, replace(checkpoint.for_inference(), form="deploy", weights=model.state_dict())
    )
