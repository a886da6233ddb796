"""What an optimizer is set to from batch to batch: YOLOv5's warm-up and decay."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch.optim import Optimizer

from utils.engine.optim import OptimizerConfig

MIN_WARMUP_BATCHES = 100


@dataclass(frozen=True, slots=True)
class StepSettings:
    """What one batch is trained with."""

    lr_bias: float
    lr_weight: float
    lr_norm: float
    momentum: float
    accumulate: int

    def apply(self, optimizer: Optimizer) -> None:
        """Set an optimizer's three groups (biases, weights, norms)."""
        rates = (self.lr_bias, self.lr_weight, self.lr_norm)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
            if "momentum" in group:
                group["momentum"] = self.momentum
            else:
                group["betas"] = (self.momentum, group["betas"][1])


@dataclass(frozen=True, slots=True)
class Schedule:
    """A pure function from (epoch, batch) to settings, so that a resumed run continues exactly.

    Attributes:
        config: rates, momentum and warm-up.
        epochs: of the whole run.
        batches_per_epoch: of all processes together, which share each batch.
        batch_size: images per batch.
        cosine: cosine instead of linear decay.
    """

    config: OptimizerConfig
    epochs: int
    batches_per_epoch: int
    batch_size: int
    cosine: bool = False

    def decay(self, epoch: int) -> float:
        """Factor on lr0 in an epoch: from 1 to lrf."""
        progress = epoch / self.epochs
        if self.cosine:
            return (1 - math.cos(math.pi * progress)) / 2 * (self.config.lrf - 1) + 1
        return (1 - progress) * (1 - self.config.lrf) + self.config.lrf

    @property
    def warmup_batches(self) -> int:
        """How many batches the warm-up lasts."""
        return max(round(self.config.warmup_epochs * self.batches_per_epoch), MIN_WARMUP_BATCHES)

    def at(self, epoch: int, batch: int) -> StepSettings:
        """The settings of batch `batch` of epoch `epoch`, both counted from 0."""
        config = self.config
        rate = config.lr0 * self.decay(epoch)
        done = epoch * self.batches_per_epoch + batch
        if done > self.warmup_batches:
            return StepSettings(
                rate, rate, rate, config.momentum, config.accumulate(self.batch_size)
            )
        span = (0, self.warmup_batches)
        per_step = np.interp(done, span, (1, config.nbs / self.batch_size)).round()
        warm = float(np.interp(done, span, (0.0, rate)))
        return StepSettings(
            lr_bias=float(np.interp(done, span, (config.warmup_bias_lr, rate))),
            lr_weight=warm,
            lr_norm=warm,
            momentum=float(np.interp(done, span, (config.warmup_momentum, config.momentum))),
            accumulate=max(int(per_step), 1),
        )
