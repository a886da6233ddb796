"""Binary cross-entropy of logits, element by element.

For a logit x and a target t, with softplus(x) = log(1 + exp(x)) and a weight w of positives, it is

    w t softplus(-x) + (1 - t) softplus(x)

In this form nothing cancels: a confident right answer keeps its digits in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_LINEAR_ABOVE = 40.0  # where softplus(x) is x in float64, too


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """Cross-entropy, focal where configured (Lin et al. 2017, eq. 5).

    Attributes:
        positive_weight: w.
        gamma: the focal exponent; 0 is plain cross-entropy.
    """

    positive_weight: float = 1.0
    gamma: float = 0.0

    def of_nothing(self, logits: Tensor) -> Tensor:
        """The loss where all targets are 0, of the shape of `logits`."""
        loss = _softplus(logits)
        return loss if self.gamma == 0 else loss * 0.75 * logits.sigmoid() ** self.gamma

    def of_targets(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of targets in 0-1, of the shape of both."""
        positive, negative = _softplus(-logits), _softplus(logits)
        loss = self.positive_weight * targets * positive + (1 - targets) * negative
        if self.gamma == 0:
            return loss
        probability = logits.sigmoid()
        of_target = targets * probability + (1 - targets) * (1 - probability)
        alpha = targets * 0.25 + (1 - targets) * 0.75
        return loss * alpha * (1 - of_target) ** self.gamma

    def of_classes(self, logits: Tensor, class_ids: Tensor, smoothing: float) -> Tensor:
        """The loss where one class of each row is right.

        Args:
            logits: (K, C).
            class_ids: (K,) int64.
            smoothing: the target is 1 - smoothing / 2 for that class, smoothing / 2 for others.

        Returns:
            (K, C).
        """
        rest, column = smoothing / 2, class_ids[:, None]
        if self.positive_weight != 1 or self.gamma != 0:
            targets = torch.full_like(logits, rest).scatter_(1, column, 1 - rest)
            return self.of_targets(logits, targets)
        # Both softplus of the formula in one: the right class's logit with its sign turned.
        against = logits * torch.ones_like(logits).scatter_(1, column, -1)
        loss = _softplus(against)
        return loss if rest == 0 else loss - rest * against


def _softplus(values: Tensor) -> Tensor:
    return F.softplus(values, threshold=_LINEAR_ABOVE)
