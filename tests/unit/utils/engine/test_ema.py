from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from utils.engine.ema import ModelEMA, ema_decay


def network(value: float) -> nn.Module:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(value)
    return model.train()


def test_the_decay_rises():
    values = [ema_decay(updates) for updates in (0, 1, 100, 2000, 10**6)]
    assert values[0] == 0 and values[-1] == pytest.approx(0.9999)
    assert all(a < b for a, b in itertools.pairwise(values))


def test_the_average_by_hand():
    """Parameters and statistics are averaged, counters are copied."""
    ema = ModelEMA(network(1.0), updates=1999)
    ema.update(network(5.0))
    assert ema.updates == 2000
    decay = ema_decay(2000)
    state = ema.model.state_dict()
    assert int(state["1.num_batches_tracked"]) == 5
    for name, tensor in state.items():
        if tensor.dtype.is_floating_point:
            expected = torch.full_like(tensor, decay + 5 * (1 - decay))
            assert torch.allclose(tensor, expected), name


def test_the_first_updates_follow_closely():
    ema = ModelEMA(network(1.0))
    ema.update(network(5.0))
    assert float(ema.model[0].weight) == pytest.approx(5.0, abs=0.01)


def test_it_is_a_copy_without_gradients_in_eval_mode():
    model = network(1.0)
    ema = ModelEMA(model)
    assert not ema.model.training and model.training
    assert not any(p.requires_grad for p in ema.model.parameters())
    assert all(p.requires_grad for p in model.parameters())
    ema.update(network(2.0))
    assert float(model[0].weight.detach()) == 1.0


def test_half_precision_models_are_averaged_in_float32():
    ema = ModelEMA(network(1.0), updates=1999)
    ema.update(network(5.0).half())
    assert ema.model[0].weight.dtype == torch.float32
    assert float(ema.model[0].weight) == pytest.approx(5 - 4 * ema_decay(2000))
