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


@pytest.mark.parametrize("freeze", [(4,), (0, 7), (-1, 0)])
def test_numbers_beyond_the_network(freeze):
    layers = nn.ModuleList(nn.Conv2d(1, 1, 1) for _ in range(3))
    with pytest.raises(ConfigError) as caught:
        freeze_layers(layers, freeze)
    given = " ".join(map(str, freeze))
    assert str(caught.value) == f"--freeze {given}: the network has layers 0 to 2"


@pytest.mark.parametrize("freeze", [(3,), (0, 1, 2), (0, 2)])
def test_something_is_left_to_train(freeze):
    layers = nn.ModuleList((nn.Conv2d(1, 1, 1), nn.Upsample(), nn.Conv2d(1, 1, 1)))
    with pytest.raises(
        ConfigError, match="nothing is left to train; the network has layers 0 to 2"
    ):
        freeze_layers(layers, freeze)
