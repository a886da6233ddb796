"""Computational cost of a network."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def network_gflops(model: nn.Module, input_hw: tuple[int, int] = (640, 640)) -> float:
    """2 x multiply-adds of all convolutions and matrix products for one image, in units of 1e9.

    Runs a copy on torch's meta device: no memory is allocated and `model` is not changed.
    """
    shadow = copy.deepcopy(model).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shadow(torch.empty(1, 3, *input_hw, device="meta"))
    return float(counter.get_total_flops()) / 1e9
