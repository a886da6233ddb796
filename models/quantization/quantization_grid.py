"""Rounding to the numbers that 8 bits can express, with gradients: what QAT trains through."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Array = npt.NDArray[Any]


class Grid(nn.Module):
    """The numbers that one scale of a file can express; rounds to them.

    Args:
        scale: distance of neighbours; of a shape that broadcasts over what is rounded.
        zero_point: the whole number that stands for 0.
        limits: the least and the largest whole number.
        trained: whether the scale learns. It grows by a factor e^growth, so that it stays above 0,
            and is bit by bit the file's as long as nothing was learnt.
    """

    start: Tensor

    def __init__(
        self, scale: Array, zero_point: int, limits: tuple[int, int], *, trained: bool
    ) -> None:
        super().__init__()
        self.zero_point = zero_point
        self.low, self.high = limits[0] - zero_point, limits[1] - zero_point
        self.register_buffer("start", torch.from_numpy(scale.copy()))
        self.growth = nn.Parameter(torch.zeros_like(self.start), requires_grad=trained)

    @property
    def scale(self) -> Tensor:
        """As it is now."""
        return self.start * self.growth.exp()

    def forward(self, values: Tensor) -> Tensor:
        """The nearest numbers that can be expressed; same shape."""
        return rounded(values, self.scale, (self.low, self.high))

    @torch.no_grad()
    def whole(self, values: Tensor) -> Array:
        """The whole numbers that stand for them in the file."""
        steps = (values / self.scale).round().clamp(self.low, self.high)
        return (steps + self.zero_point).cpu().numpy()


def weight_limits(kind: np.dtype[Any], zero_point: int) -> tuple[int, int]:
    """The range of weights: symmetric about 0 where the zero point is, as integer units want it."""
    info = np.iinfo(kind)
    symmetric = info.min < 0 and zero_point == 0
    return (-info.max if symmetric else info.min), info.max


def rounded(values: Tensor, scale: Tensor, limits: tuple[float, float]) -> Tensor:
    """The nearest multiples of a scale, at least and at most `limits` of it.

    Args:
        values: of any shape.
        scale: of a shape that broadcasts over it.
        limits: in multiples of the scale.
    """
    result: Tensor = _Rounding.apply(values, scale, *limits)
    return result


class _Rounding(torch.autograd.Function):
    """Learned step size quantization (Esser et al., ICLR 2020).

    Eq. 1 and 2 forwards, eq. 3 backwards, the scale's gradient divided by sqrt(numbers per scale *
    high) as in sec. 2.2; numbers within the limits pass their gradient on, others have none.
    Divides as onnxruntime does: a product with the reciprocal would send ties to the other side.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: Tensor, low: float, high: float) -> Tensor:
        steps = values / scale
        ctx.save_for_backward(steps, scale)
        ctx.limits = low, high
        return steps.round().clamp_(low, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (steps, scale), (low, high) = gradients, ctx.saved_tensors, ctx.limits
        passed = gradient * ((steps >= low) & (steps <= high))
        if not ctx.needs_input_grad[1]:
            return passed, None, None, None
        slope = steps.round().clamp_(low, high).mul_(gradient).sub_(steps * passed)
        per_scale = steps.numel() / scale.numel()
        return passed, slope.sum_to_size(scale.shape) / (per_scale * high) ** 0.5, None, None
