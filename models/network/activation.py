"""Activations by the name a model yaml gives them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from utils.errors import ConfigError, first_line
from utils.strict_yaml import parse_call, suggest

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "SiLU": nn.SiLU,
    "LeakyReLU": nn.LeakyReLU,
    "ReLU": nn.ReLU,
    "ReLU6": nn.ReLU6,
    "Hardswish": nn.Hardswish,
    "Mish": nn.Mish,
    "GELU": nn.GELU,
    "Identity": nn.Identity,
}
_IN_PLACE = {"SiLU", "LeakyReLU", "ReLU", "ReLU6", "Hardswish", "Mish"}


def activation_maker(text: str, where: str) -> Callable[[], nn.Module]:
    """A factory of the activation that `text` names, e.g. `LeakyReLU(0.1)`.

    Raises:
        ConfigError: unknown name or arguments it does not take.
    """
    call = parse_call(text, where)
    if call.name not in ACTIVATIONS:
        raise ConfigError(f"{where}: unknown activation {text!r}{suggest(call.name, ACTIVATIONS)}")
    kind = ACTIVATIONS[call.name]
    # The convolution before keeps its own input for backward, so its output may be overwritten.
    kwargs = {"inplace": True, **call.kwargs} if call.name in _IN_PLACE else call.kwargs
    try:
        kind(*call.args, **kwargs)(torch.zeros(1))  # wrong argument types only fail in use
    except (TypeError, RuntimeError) as error:
        raise ConfigError(f"{where}: {text!r}: {first_line(error)}") from None
    return lambda: kind(*call.args, **kwargs)
