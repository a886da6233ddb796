"""How large a network is and how much it computes."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def conv_gflops(model: nn.Module, input_hw: tuple[int, int] = (640, 640)) -> float:
    """2 x multiply-adds of all convolutions for one picture, in units of 1e9.

    Runs a copy without memory (torch's meta device), so it costs nothing and changes nothing.
    """
    shadow = copy.deepcopy(model).to("meta")
    total = 0

    def count(module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal total
        weights = sum(
            weight.numel() for name, weight in module.named_parameters() if name == "weight"
        )
        total += 2 * output.shape[2] * output.shape[3] * weights

    for module in shadow.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        shadow(torch.empty(1, 3, *input_hw, device="meta"))
    return total / 1e9
