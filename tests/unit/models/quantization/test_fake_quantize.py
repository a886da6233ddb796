"""Fake quantization: rounds as QuantizeLinear does, and has the gradients of LSQ."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.quantization.fake_quantize import FakeQuantize, fake_quantize, weight_limits


@pytest.mark.parametrize(
    "limits", [(-4, 3), (0, 7), (-7, 0)], ids=["signed", "unsigned", "never positive"]
)
def test_gradients_by_hand(limits):
    """LSQ's formula, number by number."""
    values = torch.linspace(-3, 3.1, 31).requires_grad_()  # none is half-way
    scale = torch.tensor(0.4, requires_grad=True)
    weights = torch.arange(31.0)
    (fake_quantize(values, scale, limits) * weights).sum().backward()
    low, high = limits
    expected, slope = [], 0.0
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        step = value / 0.4
        inside = low <= step <= high
        expected.append(weight * inside)
        slope += weight * ((round(step) - step) if inside else (low if step < low else high))
    assert values.grad is not None and scale.grad is not None
    assert values.grad.tolist() == expected
    assert float(scale.grad) == pytest.approx(slope / (31 * max(high, 1)) ** 0.5, rel=1e-4)


def test_a_scale_per_channel_sums_over_the_rest():
    values, scale = torch.randn(3, 2, 2, 2), torch.full((3, 1, 1, 1), 0.1, requires_grad=True)
    fake_quantize(values, scale, (-4, 3)).sum().backward()
    for channel in range(3):
        alone = torch.tensor(0.1, requires_grad=True)
        fake_quantize(values[channel], alone, (-4, 3)).sum().backward()
        assert scale.grad is not None and alone.grad is not None
        torch.testing.assert_close(scale.grad[channel].squeeze(), alone.grad)


def test_rounds_as_quantize_linear_does():
    """Ties to even, and both ends."""
    values = torch.tensor([0.5, 1.5, 2.5, -0.5, -200.0, 200.0])
    quantizer = FakeQuantize(np.array(1.0, np.float32), 100, (0, 255), trained=True)
    assert quantizer(values).tolist() == [0, 2, 2, 0, -100, 155]
    assert quantizer.quantize(values).tolist() == [100, 102, 102, 100, 0, 255]
    assert weight_limits(np.array([-3, 127], np.int8), 0) == (-127, 127)
    assert weight_limits(np.array([-65, 9], np.int8), 0) == (-127, 127)
    assert weight_limits(np.array([-64, 9], np.int8), 0) == (-64, 64)
    assert weight_limits(np.array([-128, 9], np.int8), 0) == (-127, 127)
    assert weight_limits(np.array([0, 9], np.uint8), 128) == (0, 255)
