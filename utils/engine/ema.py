"""The exponential moving average of a network's weights."""

from __future__ import annotations

import copy
import math
from typing import Generic, TypeVar

import torch
from torch import nn

ModelT = TypeVar("ModelT", bound=nn.Module, covariant=True)
DECAY = 0.9999
RAMP_STEPS = 2000


def ema_decay(updates: int) -> float:
    """Decay at the given number of updates: short memory first, 0.9999 in the end."""
    return DECAY * (1 - math.exp(-updates / RAMP_STEPS))


class ModelEMA(Generic[ModelT]):
    """Exponential moving average of parameters and float buffers, batch-norm statistics included.

    Branches are averaged, not folded kernels: folding is not linear in the norms, so the average is
    converted, never the other way round.

    Attributes:
        model: the averaged copy, in eval mode, without gradients.
        updates: how many times it was updated.
    """

    def __init__(self, model: ModelT, updates: int = 0) -> None:
        self.model = copy.deepcopy(model).eval()
        self.updates = updates
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Set average = d * average + (1 - d) * model for every float tensor of the state."""
        self.updates += 1
        decay = ema_decay(self.updates)
        current = model.state_dict()
        averages, values, counts, new_counts = [], [], [], []
        for name, average in self.model.state_dict().items():
            if average.dtype.is_floating_point:
                averages.append(average)
                values.append(current[name].detach().to(average.dtype))
            else:
                counts.append(average)
                new_counts.append(current[name])
        if counts:
            torch._foreach_copy_(counts, new_counts)
        torch._foreach_lerp_(averages, values, 1 - decay)
