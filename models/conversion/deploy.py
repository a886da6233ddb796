"""Train form to deploy form, and the relative error between two networks."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor, nn

from models.network.concat_norm import ConcatNorm
from models.network.detector import Detector
from models.reparam.algebra import BatchNorm
from models.reparam.rep_block import RepBlock, outermost_blocks

Maps = Sequence[Tensor]  # raw predictions, one map per level


@overload
def to_deploy(model: Detector) -> Detector: ...
@overload
def to_deploy(model: nn.Module) -> nn.Module: ...
def to_deploy(model: nn.Module) -> nn.Module:
    """A new network with every block folded to one convolution; `model` does not change.

    A network in deploy form is copied; a block alone can be folded too.

    Raises:
        ValueError: `model` is in train mode.
    """
    if model.training:
        raise ValueError("only a network in eval mode has a deploy form; call .eval()")
    as_they_are = {id(block): block for block in outermost_blocks(model)}  # they need no copy
    return _with_blocks_replaced(copy.deepcopy(model, as_they_are))


def _with_blocks_replaced(module: nn.Module) -> nn.Module:
    """Folds outermost blocks, in place: a block may hold others."""
    if isinstance(module, RepBlock):
        return module.to_deploy()
    if isinstance(module, ConcatNorm):
        module.fold_norm()
    for name, child in module.named_children():
        setattr(module, name, _with_blocks_replaced(child))
    return module


def is_deployed(model: nn.Module) -> bool:
    """Whether it has no block with branches, and no norm."""
    return not any(isinstance(module, RepBlock | BatchNorm) for module in model.modules())


def relative_error(reference: Maps, other: Maps) -> float:
    """Largest |a - b| / max |a| of the worst map; infinite where a value is not finite."""
    worst = 0.0
    for a, b in zip(reference, other, strict=True):
        a, b = a.detach().double(), b.detach().double()
        if torch.equal(a, b) and torch.isfinite(a).all():
            continue  # two maps of zeros have no scale
        difference = (a - b).abs().max() / a.abs().max()
        worst = max(worst, float(difference) if torch.isfinite(difference) else float("inf"))
    return worst
