"""The optimizer and its parameter groups."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

NOMINAL_BATCH_SIZE = 64  # gradients are accumulated until about this many images
MAX_GRADIENT_NORM = 10.0


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


def scaled_weight_decay(weight_decay: float, batch_size: int) -> float:
    """Weight decay for the images really accumulated per step (YOLOv5's scaling)."""
    accumulate = max(round(NOMINAL_BATCH_SIZE / batch_size), 1)
    return weight_decay * batch_size * accumulate / NOMINAL_BATCH_SIZE


def build_optimizer(
    model: nn.Module, name: str, *, lr: float, momentum: float, weight_decay: float
) -> Optimizer:
    """SGD (Nesterov), Adam or AdamW over biases, weights and norms, in this order of groups.

    Raises:
        ValueError: another name.
    """
    groups = ParameterGroups.of(model)
    optimizer: Optimizer
    if name == "SGD":
        optimizer = SGD(groups.biases, lr=lr, momentum=momentum, nesterov=True)
    elif name == "Adam":
        optimizer = Adam(groups.biases, lr=lr, betas=(momentum, 0.999))
    elif name == "AdamW":
        optimizer = AdamW(groups.biases, lr=lr, betas=(momentum, 0.999), weight_decay=0.0)
    else:
        raise ValueError(f"unknown optimizer {name!r}")
    optimizer.add_param_group({"params": groups.weights, "weight_decay": weight_decay})
    optimizer.add_param_group({"params": groups.norms, "weight_decay": 0.0})
    return optimizer


def clip_gradients(model: nn.Module) -> float:
    """Scale all gradients down to norm 10 where they exceed it; returns their norm before."""
    return float(torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM))
