"""Learning rate, momentum and gradient accumulation over a run (YOLOv5's schedule)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch.optim import Optimizer

from utils.engine.optim import NOMINAL_BATCH_SIZE

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
        epochs: of the whole run.
        batches_per_epoch: batches of one epoch.
        batch_size: images per batch.
        lr0, lrf: initial learning rate, and the final one as a fraction of it.
        momentum, warmup_momentum: after, and at the start of, the warm-up.
        warmup_epochs, warmup_bias_lr: its length (at least 100 batches) and the biases' first rate.
        cosine: cosine instead of linear decay.
    """

    epochs: int
    batches_per_epoch: int
    batch_size: int
    lr0: float
    lrf: float
    momentum: float
    warmup_momentum: float
    warmup_epochs: float
    warmup_bias_lr: float
    cosine: bool = False

    def decay(self, epoch: int) -> float:
        """Factor on lr0 in an epoch: from 1 to lrf."""
        progress = epoch / self.epochs
        if self.cosine:
            return (1 - math.cos(math.pi * progress)) / 2 * (self.lrf - 1) + 1
        return (1 - progress) * (1 - self.lrf) + self.lrf

    @property
    def warmup_batches(self) -> int:
        """How many batches the warm-up lasts."""
        return max(round(self.warmup_epochs * self.batches_per_epoch), MIN_WARMUP_BATCHES)

    @property
    def full_accumulate(self) -> int:
        """Batches per optimizer step after the warm-up."""
        return max(round(NOMINAL_BATCH_SIZE / self.batch_size), 1)

    def at(self, epoch: int, batch: int) -> StepSettings:
        """The settings of batch `batch` of epoch `epoch`, both counted from 0."""
        rate = self.lr0 * self.decay(epoch)
        done = epoch * self.batches_per_epoch + batch
        if done > self.warmup_batches:
            return StepSettings(rate, rate, rate, self.momentum, self.full_accumulate)
        span = (0, self.warmup_batches)
        accumulate = np.interp(done, span, (1, NOMINAL_BATCH_SIZE / self.batch_size)).round()
        warm = float(np.interp(done, span, (0.0, rate)))
        return StepSettings(
            lr_bias=float(np.interp(done, span, (self.warmup_bias_lr, rate))),
            lr_weight=warm,
            lr_norm=warm,
            momentum=float(np.interp(done, span, (self.warmup_momentum, self.momentum))),
            accumulate=max(int(accumulate), 1),
        )
