"""The optimizer: its hyper-parameters, groups of parameters, and steps that are multiplied."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from utils.logs import counted
from utils.strict_mapping import check_limits

NOMINAL_BATCH_SIZE = 64  # YOLOv5's
MAX_GRADIENT_NORM = 10.0
FUSED_ON = ("cpu", "cuda")  # kinds of devices
_MAX_MOMENTUM = 0.9999  # with 1, a step would never be forgotten


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """The hyper-parameters of the optimizer, named as in YOLOv5's yamls.

    Attributes:
        lr0: initial learning rate.
        lrf: final learning rate as a fraction of lr0.
        momentum: SGD momentum, or Adam's beta1.
        weight_decay: for a nominal batch of 64.
        warmup_epochs: length of the warm-up (at least 100 batches).
        warmup_momentum: momentum at its start.
        warmup_bias_lr: learning rate of biases at its start.
        nbs: nominal batch size: gradients are accumulated until about this many images. Fewer give
            a small data set more steps per epoch.
    """

    lr0: float = 0.01
    lrf: float = 0.01
    momentum: float = 0.937
    weight_decay: float = 0.0005
    warmup_epochs: float = 3.0
    warmup_momentum: float = 0.8
    warmup_bias_lr: float = 0.1
    nbs: float = NOMINAL_BATCH_SIZE

    def __post_init__(self) -> None:
        """Refuse what no optimizer can use.

        Raises:
            ValueError: naming the number and its limits.
        """
        momentum = (0.0, _MAX_MOMENTUM)
        check_limits(self, momentum=momentum, warmup_momentum=momentum, nbs=(1, math.inf))
        names = ("lr0", "lrf", "weight_decay", "warmup_epochs", "warmup_bias_lr")
        check_limits(self, **dict.fromkeys(names, (0.0, math.inf)))

    def accumulate(self, batch_size: int) -> int:
        """Batches per optimizer step after the warm-up."""
        return max(round(self.nbs / batch_size), 1)

    def scaled_weight_decay(self, batch_size: int) -> float:
        """Weight decay for the images really accumulated per step (YOLOv5's scaling)."""
        images = batch_size * self.accumulate(batch_size)
        return self.weight_decay * images / NOMINAL_BATCH_SIZE


@dataclass(frozen=True, slots=True)
class ParameterGroups:
    """Every trainable parameter once, by how it is trained.

    Attributes:
        biases: no weight decay; warm up from a high learning rate.
        weights: with weight decay.
        norms: scales of norms and of what stands for them, one number per channel; no decay.
    """

    biases: list[nn.Parameter] = field(default_factory=list)
    weights: list[nn.Parameter] = field(default_factory=list)
    norms: list[nn.Parameter] = field(default_factory=list)

    @classmethod
    def of(cls, model: nn.Module) -> ParameterGroups:
        """The groups of a model, parameters in the order of its modules."""
        groups = cls()
        for name, parameter in model.named_parameters():
            if name.rpartition(".")[2] == "bias":
                groups.biases.append(parameter)
            elif parameter.ndim == 1:
                groups.norms.append(parameter)
            else:
                groups.weights.append(parameter)
        return groups


@runtime_checkable
class TapScaled(Protocol):
    """A module with weights that learn as branches with constant scales do (RepOptimizer)."""

    def gradient_multipliers(self, power: int) -> Mapping[Tensor, Tensor]:
        """Weight -> what multiplies its gradient (power 2) or update (power 1), element-wise."""


class TapMultipliers:
    """What an optimizer multiplies in each step (Ding et al., RepOptimizers, ICLR 2023).

    With SGD it is the gradient, before weight decay and momentum. The steps of Adam and AdamW do
    not depend on the gradient's scale, so there it is the step, without the decay of AdamW.

    It belongs to the optimizer's step: once for all batches whose gradients were gathered, after
    they are unscaled, averaged over ranks, clipped and found finite, and never in a skipped step.
    The clip therefore measures what it measures in a plain network.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        adaptive = not isinstance(optimizer, SGD)
        self._of: dict[Tensor, Tensor] = {}
        for module in model.modules():
            if isinstance(module, TapScaled):
                self._of.update(module.gradient_multipliers(1 if adaptive else 2))
        self._decayed: dict[Tensor, Tensor] = {}  # before an adaptive step
        if self._of and adaptive:
            optimizer.register_step_pre_hook(self._remember)
            optimizer.register_step_post_hook(self._multiply_step)
        elif self._of:
            optimizer.register_step_pre_hook(self._multiply_gradients)

    def _multiply_gradients(self, *_: Any) -> None:
        pairs = [(p.grad, factor) for p, factor in self._of.items() if p.grad is not None]
        if pairs:
            torch._foreach_mul_(*map(list, zip(*pairs, strict=True)))

    @torch.no_grad()
    def _remember(self, optimizer: Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            # Adam's decay is part of its gradient, AdamW's is apart.
            decay = group["lr"] * group["weight_decay"] if isinstance(optimizer, AdamW) else 0.0
            for parameter in group["params"]:
                if parameter in self._of and parameter.grad is not None:
                    self._decayed[parameter] = parameter * (1 - decay)

    @torch.no_grad()
    def _multiply_step(self, *_: Any) -> None:
        for parameter, decayed in self._decayed.items():
            step = (parameter - decayed).mul_(self._of[parameter])
            parameter.copy_(decayed.add_(step))
        self._decayed = {}


def build_optimizer(
    model: nn.Module, name: str, *, lr: float, momentum: float, weight_decay: float
) -> Optimizer:
    """SGD (Nesterov), Adam or AdamW over biases, weights and norms, in this order of groups.

    Modules that are `TapScaled` have their steps multiplied. A step is one pass over the memory
    where torch has such a kernel.

    Raises:
        ValueError: another name.
    """
    groups, fused = ParameterGroups.of(model), _can_be_fused(model)
    betas = (momentum, 0.999)
    optimizer: Optimizer
    if name == "SGD":
        optimizer = SGD(groups.biases, lr=lr, momentum=momentum, nesterov=momentum > 0,
                        fused=fused)  # fmt: skip
    elif name == "Adam":
        optimizer = Adam(groups.biases, lr=lr, betas=betas, fused=fused)
    elif name == "AdamW":
        optimizer = AdamW(groups.biases, lr=lr, betas=betas, weight_decay=0.0, fused=fused)
    else:
        raise ValueError(f"unknown optimizer {name!r}")
    optimizer.add_param_group({"params": groups.weights, "weight_decay": weight_decay})
    optimizer.add_param_group({"params": groups.norms, "weight_decay": 0.0})
    TapMultipliers(model, optimizer)
    return optimizer


def _can_be_fused(model: nn.Module) -> bool | None:
    """Whether torch has one kernel for a whole step; None leaves the choice to torch."""
    kinds = {(each.device.type, each.is_floating_point()) for each in model.parameters()}
    return kinds <= {(device, True) for device in FUSED_ON} or None


def load_optimizer_state(optimizer: Optimizer, state: Mapping[int, Any]) -> None:
    """Go on with the state of an optimizer over the same parameters.

    The optimizer keeps the settings it was made with. What belongs to a parameter is laid out in
    memory as that is: a fused step goes through both from end to end, and takes one order for the
    other without a word.
    """
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter).copy_(value)


def describe_optimizer(optimizer: Optimizer, config: OptimizerConfig, batch_size: int) -> str:
    """Learning rates, groups and images per step in one line; frozen parameters do not count."""
    names = ("biases", "weights", "norms")
    groups = {
        name: f"{sum(parameter.requires_grad for parameter in group['params'])} {name} "
        f"(decay {group['weight_decay']:g})"
        for name, group in zip(names, optimizer.param_groups, strict=True)
    }
    return (
        f"Optimizer: {type(optimizer).__name__}, lr {config.lr0:g} to {config.lr0 * config.lrf:g}, "
        f"{groups['weights']}, {groups['norms']}, {groups['biases']}, "
        f"{counted(batch_size * config.accumulate(batch_size), 'image')} per step"
    )


def clip_gradients(model: nn.Module) -> Tensor:
    """Scale all gradients down to norm 10 where they exceed it.

    Returns:
        () their norm before, on the device: nothing waits for it.
    """
    return torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
