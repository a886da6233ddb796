from __future__ import annotations

import pytest
import torch
from torch import nn

from models.network.layers import ACTIVATIONS, activation_maker
from utils.errors import ConfigError

# (text, class, an input, its output)
TABLE = [
    ("SiLU", nn.SiLU, 0.0, 0.0),
    ("nn.SiLU()", nn.SiLU, 0.0, 0.0),
    ("LeakyReLU(0.1)", nn.LeakyReLU, -1.0, -0.1),
    ("torch.nn.LeakyReLU(negative_slope=0.2)", nn.LeakyReLU, -1.0, -0.2),
    (" ReLU ", nn.ReLU, -1.0, 0.0),
    ("ReLU6", nn.ReLU6, 9.0, 6.0),
    ("Hardswish()", nn.Hardswish, 9.0, 9.0),
    ("Identity", nn.Identity, -3.0, -3.0),
    ("GELU('tanh')", nn.GELU, 0.0, 0.0),
]


@pytest.mark.parametrize(("text", "kind", "x", "y"), TABLE)
def test_known_activations(text, kind, x, y):
    make = activation_maker(text, "a.yaml")
    first, second = make(), make()
    assert type(first) is kind and first is not second
    assert float(first(torch.tensor([x]))) == pytest.approx(y)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_known_name(name):
    assert activation_maker(name, "a.yaml")()(torch.zeros(2, 3)).shape == (2, 3)


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("LeakyRelu(0.1)", "unknown activation 'LeakyRelu(0.1)'; did you mean 'LeakyReLU'?"),
        ("os.system('x')", "\"os.system('x')\" is not a name like `SiLU` or `LeakyReLU(0.1)`"),
        ("LeakyReLU(1+x)", "'LeakyReLU(1+x)' is not a name like `SiLU` or `LeakyReLU(0.1)`"),
        ("", "'' is not a name like `SiLU` or `LeakyReLU(0.1)`"),
        ("LeakyReLU('a')", "\"LeakyReLU('a')\": leaky_relu_(): argument 'negative_slope'"),
        ("GELU('round')", "\"GELU('round')\": "),
    ],
)
def test_errors(text, start):
    with pytest.raises(ConfigError) as caught:
        activation_maker(text, "a.yaml: activation")
    assert str(caught.value).startswith(f"a.yaml: activation: {start}")
    assert "\n" not in str(caught.value)
