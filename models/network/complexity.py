"""How large a network is, and how much it computes."""

from __future__ import annotations

import copy
from collections import Counter

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.network.detector import Detector, count_parameters
from models.reparam.rep_block import ConvAct, RepBlock


def network_gflops(model: nn.Module, input_hw: tuple[int, int] = (640, 640)) -> float:
    """2 x multiply-adds of all convolutions and matrix products for one image, in units of 1e9.

    Runs a copy on torch's meta device: no memory is allocated and `model` is not changed.
    """
    shadow = copy.deepcopy(model).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shadow(torch.empty(1, 3, *input_hw, device="meta"))
    return float(counter.get_total_flops()) / 1e9


def block_counts(model: nn.Module) -> dict[str, int]:
    """Kind of convolution block -> how many a network has, in alphabetical order."""
    blocks = [module for module in model.modules() if isinstance(module, RepBlock | ConvAct)]
    return dict(sorted(Counter(block_kind(block) for block in blocks).items()))


def block_kind(block: nn.Module) -> str:
    """What reports call a convolution block of either form."""
    return block.kind if isinstance(block, RepBlock) else type(block).__name__


def describe_network(model: Detector) -> str:
    """Name, parameters, GFLOPs, blocks and activation in one line for the console."""
    blocks = ", ".join(f"{count} {name}" for name, count in block_counts(model).items())
    return (
        f"{model.spec.name}: {count_parameters(model):,} parameters, "
        f"{network_gflops(model):.2f} GFLOPs at 640, {blocks}, {model.spec.activation}"
    )
