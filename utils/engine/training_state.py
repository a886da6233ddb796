"""What training changes: network, average, optimizer and what they need from batch to batch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic

import torch
from torch import nn
from torch.optim import Optimizer

from utils.engine.distributed import Ranks
from utils.engine.ema import ModelEMA, ModelT
from utils.engine.freeze import freeze_layers
from utils.engine.optim import build_optimizer, scaled_weight_decay
from utils.engine.precision import Precision
from utils.errors import ConfigError
from utils.hyperparameters import Hyperparameters


@dataclass(frozen=True, slots=True)
class StateConfig:
    """How a network is trained.

    Attributes:
        batch_size: images per batch, over all ranks.
        optimizer: its name.
        freeze: the first N layers, or the layers listed.
        amp: see Precision.choose.
        sync_bn: norms over the images of all GPUs.
        compile: compile the network with torch.compile.
        channels_last: keep channels beside each other in memory.
    """

    batch_size: int
    optimizer: str = "SGD"
    freeze: tuple[int, ...] = (0,)
    amp: str = "off"
    sync_bn: bool = False
    compile: bool = False
    channels_last: bool = False


@dataclass(slots=True)
class TrainingState(Generic[ModelT]):
    """What training changes: the parts of a run that live from epoch to epoch.

    Attributes:
        model: the network in train form.
        parallel: runs `model`, compiled perhaps, and averages gradients over ranks; `model` itself
            where there is nothing to add.
        ema: its average.
        optimizer: with groups biases, weights, norms.
        precision: autocast and loss scaling.
        memory_format: in which images and kernels lie in memory.
        frozen: layers kept in eval mode, whose parameters have no gradient.
        last_step: batch (counted over the run) at which the optimizer last stepped.
        skipped_steps: batches and steps left out because loss or gradients were not finite.
        bad_losses: batches in a row that were left out.
        bad_steps: steps in a row that were left out.
        AP_of_class: of each class at the last evaluation; nothing before the first.
        ranks: the processes that train together.
    """

    model: ModelT
    parallel: nn.Module
    ema: ModelEMA[ModelT]
    optimizer: Optimizer
    precision: Precision
    memory_format: torch.memory_format = torch.contiguous_format
    frozen: Sequence[nn.Module] = ()
    last_step: int = -1
    skipped_steps: int = 0
    bad_losses: int = 0
    bad_steps: int = 0
    AP_of_class: tuple[float, ...] = ()
    ranks: Ranks = field(default_factory=Ranks)


def start_training(
    model: ModelT,
    layers: nn.ModuleList,
    ema: ModelEMA[ModelT],
    hyp: Hyperparameters,
    config: StateConfig,
    *,
    device: torch.device,
    ranks: Ranks | None = None,
) -> TrainingState[ModelT]:
    """A network, its average and its settings made ready for the first batch.

    Args:
        model: on `device`; changed in place.
        layers: those of `model` that `config.freeze` counts.
        ema: its average.
        hyp: learning rate, momentum and weight decay.
        config: the rest.
        device: where to train.
        ranks: the processes that train together; None is this one alone.

    Raises:
        ConfigError: a setting that this network or machine cannot follow.
    """
    ranks = ranks or Ranks()
    frozen = freeze_layers(layers, config.freeze)
    memory_format = torch.contiguous_format
    if config.channels_last:
        memory_format = torch.channels_last
        model.to(memory_format=memory_format)
    optimizer = build_optimizer(
        model,
        config.optimizer,
        lr=hyp.lr0,
        momentum=hyp.momentum,
        weight_decay=scaled_weight_decay(hyp.weight_decay, config.batch_size),
    )
    parallel = ranks.parallel(model, device, shared_norms=config.sync_bn)
    if config.compile:
        check_compiler()
        parallel.compile()  # in place: the network's parameters keep their names
    return TrainingState(
        model=model,
        parallel=parallel,
        ema=ema,
        optimizer=optimizer,
        precision=Precision.choose(config.amp, device),
        memory_format=memory_format,
        frozen=frozen,
        ranks=ranks,
    )


def check_compiler() -> None:
    """Refuse `--compile` where torch will find no compiler: it would say so late and at length.

    Raises:
        ConfigError: there is none.
    """
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    if not any(shutil.which(name) for name in names):
        raise ConfigError(
            f"--compile: needs a C++ compiler, and there is no {' or '.join(names)}; install one, "
            "or leave --compile out"
        )
