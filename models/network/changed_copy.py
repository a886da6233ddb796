"""Copies of modules whose tensors are of another type or on another device."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def changed_copy(module: ModuleT, change: Callable[[Tensor], Tensor]) -> ModuleT:
    """`copy.deepcopy` with a change of every parameter and buffer.

    Unlike a copy that is changed afterwards, it never holds a tensor of the old kind.
    """
    memo: dict[int, Any] = {
        id(each): nn.Parameter(change(each.detach()), each.requires_grad)
        for each in module.parameters()
    }
    memo.update((id(each), change(each)) for each in module.buffers())
    return copy.deepcopy(module, memo)


def as_double(tensor: Tensor) -> Tensor:
    """In float64 where it is of real numbers; else itself, copied."""
    return tensor.double() if tensor.is_floating_point() else tensor.clone()
