"""Which epoch was the best so far, and whether training has stopped getting better."""

from __future__ import annotations

from dataclasses import dataclass

from utils.metrics.coco import CocoMetrics


def fitness(metrics: CocoMetrics) -> float:
    """The figure that picks the best epoch, as in YOLOv5: 0.1 AP50 + 0.9 AP."""
    return 0.1 * metrics.AP50 + 0.9 * metrics.AP


@dataclass(slots=True)
class BestEpoch:
    """Remembers the best epoch.

    Attributes:
        patience: epochs without a better one after which training may stop; 0 never stops.
        epoch: the best epoch, counted from 0; -1 before the first.
        fitness: its fitness.
        evaluated: the last epoch that was evaluated; -1 before the first.
    """

    patience: int
    epoch: int = -1
    fitness: float = -1.0
    evaluated: int = -1

    def update(self, epoch: int, fitness: float) -> bool:
        """Take note of an evaluated epoch; returns whether it is the best so far."""
        self.evaluated = epoch
        if not fitness > self.fitness:  # also for NaN
            return False
        self.epoch, self.fitness = epoch, fitness
        return True

    def should_stop(self, epoch: int) -> bool:
        """Whether the best epoch lies too far back; never after an epoch that was not evaluated."""
        return self.patience > 0 and self.evaluated == epoch >= self.epoch + self.patience
