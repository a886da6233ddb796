"""Fake quantization: rounding to 8-bit values in float arithmetic, with gradients for training."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Array = npt.NDArray[Any]
REDUCED_RANGE = 64  # largest weight of onnxruntime's 7-bit range


class FakeQuantize(nn.Module):
    """QuantizeLinear and DequantizeLinear as one module: rounds to what the integers represent.

    Args:
        scale: step size; of a shape that broadcasts over what is rounded.
        zero_point: the integer that represents 0.
        limits: the smallest and the largest integer.
        trained: whether the scale is trained. It is start * exp(log_scale), so that it stays above
            0, and equals the file's bit for bit until a step changes it.
    """

    start: Tensor

    def __init__(
        self, scale: Array, zero_point: int, limits: tuple[int, int], *, trained: bool
    ) -> None:
        super().__init__()
        self.zero_point = zero_point
        self.low, self.high = limits[0] - zero_point, limits[1] - zero_point
        self.register_buffer("start", torch.from_numpy(scale.copy()))
        self.log_scale = nn.Parameter(torch.zeros_like(self.start), requires_grad=trained)

    @property
    def scale(self) -> Tensor:
        """The present step size, of the shape given."""
        return self.start * self.log_scale.exp()

    def forward(self, values: Tensor) -> Tensor:
        """The nearest representable values, in float; same shape."""
        return fake_quantize(values, self.scale, (self.low, self.high))

    @torch.no_grad()
    def quantize(self, values: Tensor) -> Array:
        """The integers that represent `values` in the file, as an array of floats."""
        steps = (values / self.scale).round().clamp(self.low, self.high)
        return (steps + self.zero_point).cpu().numpy()


def weight_limits(stored: Array, zero_point: int) -> tuple[int, int]:
    """The integer range of stored weights; symmetric about 0 if signed with zero point 0.

    Signed weights of 8 bits that use 7 of them keep that range.
    """
    info = np.iinfo(stored.dtype)
    if info.min >= 0 or zero_point != 0:
        return info.min, info.max
    largest = int(np.abs(stored.astype(np.int64)).max(initial=0))
    high = REDUCED_RANGE if info.bits == 8 and largest <= REDUCED_RANGE else info.max
    return -high, high


def fake_quantize(values: Tensor, scale: Tensor, limits: tuple[float, float]) -> Tensor:
    """Round to the nearest multiples of a scale and clamp, with LSQ's gradients.

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
    high) as in sec. 2.2, where high is at least 1 (it is 0 for numbers that are never positive);
    numbers within the limits pass their gradient on, others have none. Divides as onnxruntime does:
    a product with the reciprocal would send ties to the other side.
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
        size = steps.numel() / scale.numel() * max(high, 1)
        return passed, slope.sum_to_size(scale.shape) / size**0.5, None, None
