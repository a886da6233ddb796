"""Layers that training leaves as they are."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from utils.errors import ConfigError


def freeze_layers(layers: nn.ModuleList, freeze: Sequence[int]) -> tuple[nn.Module, ...]:
    """Stop the gradients of some layers and return these layers.

    The training loop must also keep them in eval mode, or their norms' statistics would drift.

    Args:
        layers: the network's layers.
        freeze: one number N for the first N layers, several for just these.

    Raises:
        ConfigError: a number beyond the network.
    """
    chosen = range(freeze[0]) if len(freeze) == 1 else freeze
    for number in chosen:
        if not 0 <= number < len(layers):
            raise ConfigError(f"--freeze {number}: the network has layers 0 to {len(layers) - 1}")
    frozen = tuple(layers[number] for number in chosen)
    for layer in frozen:
        layer.requires_grad_(False)
    return frozen
