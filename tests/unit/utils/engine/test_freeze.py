from __future__ import annotations

import pytest
from torch import nn

from utils.engine.training_state import freeze_layers
from utils.errors import ConfigError


@pytest.mark.parametrize(
    ("freeze", "expected"),
    [
        ((0,), []),  # the default: none
        ((2,), [0, 1]),  # one number: the first N
        ((3,), [0, 1, 2]),
        ((0, 2), [0, 2]),  # several: just these
        ((), []),
    ],
)
def test_which_layers(freeze, expected):
    layers = nn.ModuleList(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)) for _ in range(3))
    frozen = freeze_layers(layers, freeze)
    assert [i for i, layer in enumerate(layers) if layer in list(frozen)] == expected
    for number, layer in enumerate(layers):
        assert {p.requires_grad for p in layer.parameters()} == {number not in expected}


@pytest.mark.parametrize(("freeze", "number"), [((4,), 3), ((0, 7), 7), ((-1, 0), -1)])
def test_numbers_beyond_the_network(freeze, number):
    layers = nn.ModuleList(nn.Conv2d(1, 1, 1) for _ in range(3))
    with pytest.raises(ConfigError) as caught:
        freeze_layers(layers, freeze)
    assert str(caught.value) == f"--freeze {number}: the network has layers 0 to 2"
