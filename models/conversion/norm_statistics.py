"""Statistics of norms measured on images, in a network that computes the same afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.reparam.algebra import BatchNorm


@dataclass(slots=True)
class _Moments:
    """Sums over what enters a norm, per channel, in float64 on the CPU."""

    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0
    count: int = 0

    def add(self, module: nn.Module, inputs: tuple[Tensor]) -> None:
        """A forward pre-hook: count (B, C, H, W) values.

        Each batch is summed up on its device, in its own precision: a copy in float64 would not
        fit beside a network that fills a GPU, and there is none on Apple's.
        """
        variance, mean = (each.cpu().double() for each in
                          torch.var_mean(inputs[0], (0, 2, 3), correction=0))  # fmt: skip
        count = inputs[0].numel() // inputs[0].shape[1]
        self.total = self.total + count * mean
        self.squares = self.squares + count * (variance + mean.square())
        self.count += count


@torch.no_grad()
def measure_norms(
    model: nn.Module, batches: Iterable[Tensor], parts: Sequence[nn.Module] | None = None
) -> int:
    """Give every norm of some parts, or of all, the mean and variance of what enters it.

    A network expanded from a deploy form has norms that assume mean 0 and variance 1; in train
    mode, where a norm uses its batch's own, it would compute something else. Scale and shift
    change with the statistics, so that in eval mode each norm remains the same function.

    Args:
        model: is in eval mode while it is measured.
        batches: (B, 3, H, W) images in 0-1, as the network is trained with.
        parts: of the model; a layer that starts fresh is none of them: in train mode it normalizes.

    Returns:
        How many norms have new statistics; those that see fewer than two values keep theirs.
    """
    norms = [module for part in ([model] if parts is None else parts)
             for module in part.modules() if isinstance(module, BatchNorm)]  # fmt: skip
    moments = [_Moments() for _ in norms]
    hooks = [norm.register_forward_pre_hook(each.add)
             for norm, each in zip(norms, moments, strict=True)]  # fmt: skip
    try:
        with _in_eval_mode(model):
            for images in batches:
                model(images)
    finally:
        for hook in hooks:
            hook.remove()
    measured = [pair for pair in zip(norms, moments, strict=True) if pair[1].count > 1]
    for norm, moment in measured:
        mean = torch.as_tensor(moment.total / moment.count)
        variance = torch.as_tensor(moment.squares / moment.count) - mean.square()
        _restate(norm, mean, variance.clamp(min=0))
    return len(measured)


@contextlib.contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _restate(norm: BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """A norm, scale * (x - mean) / sqrt(variance + eps) + shift, with another mean and variance."""
    if norm.running_mean is None or norm.running_var is None or norm.bias is None:
        return
    slope = _exact(norm.weight) / (_exact(norm.running_var) + norm.eps).sqrt()
    at_zero = _exact(norm.bias) - slope * _exact(norm.running_mean)
    # What is stored is what is computed with: rounded once, before scale and shift are found.
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_(slope * (_exact(norm.running_var) + norm.eps).sqrt())
    norm.bias.copy_(at_zero + slope * _exact(norm.running_mean))


def _exact(values: Tensor) -> Tensor:
    return values.cpu().double()
