"""Copies of modules in another form of number, without a plain copy in between."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def copy_with(module: ModuleT, change: Callable[[Tensor], Tensor]) -> ModuleT:
    """A copy whose parameters and buffers are `change` of those of `module`, which stays."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(each): _changed(each, change) for each in tensors})


def in_float64(tensor: Tensor) -> Tensor:
    """A copy; real numbers in float64, integers as they are."""
    dtype = torch.float64 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(dtype, copy=True)


def without_numbers(tensor: Tensor) -> Tensor:
    """One like it on torch's meta device, where it takes no memory."""
    return torch.empty_like(tensor, device="meta")


def _changed(tensor: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    changed = change(tensor)
    return (
        nn.Parameter(changed, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else changed
    )
