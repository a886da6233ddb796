"""What training changes: network, average, optimizer and what they need from batch to batch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.optim import Optimizer

from utils.engine.distributed import Ranks
from utils.engine.ema import ModelEMA
from utils.engine.optim import OptimizerConfig, build_optimizer
from utils.errors import ConfigError
from utils.train_config import TrainConfig

MIN_CHANNELS_LAST = 16  # read by a kernel, for it to lie channels last on CPUs
FigureT = TypeVar("FigureT", float, npt.NDArray[np.float64])


@dataclass(frozen=True, slots=True)
class StateConfig:
    """How a network is trained.

    Attributes:
        optimizer: its name.
        freeze: the first N layers, or the layers listed.
        amp: see Precision.choose.
        sync_bn: norms over the images of all GPUs.
        compile: compile the network with torch.compile.
        channels_last: keep channels beside each other in memory; None where the device gains.
    """

    optimizer: str = "SGD"
    freeze: tuple[int, ...] = (0,)
    amp: str = "off"
    sync_bn: bool = False
    compile: bool = False
    channels_last: bool | None = False

    @classmethod
    def of(cls, config: TrainConfig) -> StateConfig:
        """The settings of train.py that concern this."""
        return cls(
            optimizer=config.optimizer,
            freeze=config.freeze,
            amp=config.amp,
            sync_bn=config.sync_bn,
            compile=config.compile,
            channels_last=config.channels_last,
        )


@dataclass(frozen=True, slots=True)
class Precision:
    """How numbers are computed while training: float32, or mixed with a smaller type.

    Attributes:
        dtype: of the autocast region; None computes in float32.
        scaler: scales float16 losses so that small gradients survive; disabled elsewhere.
    """

    dtype: torch.dtype | None
    scaler: torch.amp.GradScaler

    @classmethod
    def choose(cls, amp: str, device: torch.device) -> Precision:
        """What `--amp` means on a device: auto is fp16 on CUDA, bf16 on CPUs that have it."""
        dtypes = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}
        dtype = dtypes[amp] if amp in dtypes else _automatic_dtype(device)
        scaled = dtype is torch.float16 and device.type == "cuda"
        return cls(dtype, torch.amp.GradScaler(device.type, enabled=scaled))

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """The region in which forward passes run."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(device.type, dtype=self.dtype)

    def describe(self) -> str:
        """For the console."""
        names = {torch.bfloat16: "mixed bf16", torch.float16: "mixed fp16"}
        return "float32" if self.dtype is None else names[self.dtype]

    def forget_unscaling(self) -> None:
        """Let gradients be gathered and unscaled anew, at the same scale."""
        if self.scaler.is_enabled():
            self.scaler.update(self.scaler.get_scale())


def _automatic_dtype(device: torch.device) -> torch.dtype | None:
    if device.type == "cuda":
        return torch.float16
    if device.type == "cpu" and _cpu_features().get("avx512_bf16", False):
        return torch.bfloat16
    return None


def gains_by_channels_last(device: torch.device, dtype: torch.dtype | None) -> bool:
    """Whether channels last make training steps faster, as far as it is known.

    Decided by what the processor is and not by a measurement, which other programs disturb: the
    order of sums depends on it, and the same seed has to give the same weights.

    Args:
        device: where to compute.
        dtype: of the autocast region; None is float32.
    """
    return device.type == "cpu" and dtype is torch.bfloat16 and _automatic_dtype(device) is dtype


def _cpu_features() -> dict[str, Any]:
    """What torch says of this processor; older versions say nothing."""
    found: Callable[[], dict[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)
    return found()


def fitness(AP: FigureT, AP50: FigureT) -> FigureT:
    """The figure that picks the best epoch, as in YOLOv5: 0.9 AP + 0.1 AP50."""
    return 0.1 * AP50 + 0.9 * AP


@dataclass(slots=True)
class BestEpoch:
    """Remembers the best epoch, and tells whether training has stopped getting better.

    Attributes:
        patience: epochs without a better one after which training may stop; 0 never stops.
        epoch: the best epoch, counted from 0; -1 before the first.
        fitness: its fitness.
        evaluated: the last epoch that was evaluated; -1 before the first.
    """

    patience: int = 0
    epoch: int = -1
    fitness: float = -1.0
    evaluated: int = -1

    def update(self, epoch: int, AP: float | None, AP50: float | None) -> bool:
        """Take note of an epoch's figures, None where it was not evaluated.

        Returns:
            Whether it is the best so far.
        """
        if AP is None or AP50 is None:
            return False
        self.evaluated = epoch
        if not fitness(AP, AP50) > self.fitness:  # also for NaN
            return False
        self.epoch, self.fitness = epoch, fitness(AP, AP50)
        return True

    def should_stop(self, epoch: int) -> bool:
        """Whether the best epoch lies too far back; never after an epoch that was not evaluated."""
        return self.patience > 0 and self.evaluated == epoch >= self.epoch + self.patience


@dataclass(slots=True)
class TrainingState:
    """What training changes: the parts of a run that live from epoch to epoch.

    Attributes:
        model: the network in train form.
        parallel: runs `model`, compiled perhaps, and averages gradients over ranks; `model` itself
            where there is nothing to add.
        ema: its average.
        optimizer: with groups biases, weights, norms.
        precision: autocast and loss scaling.
        channels_last: whether kernels lie with their channels beside each other.
        memory_format: in which images lie in memory.
        frozen: layers kept in eval mode, whose parameters have no gradient.
        next_epoch: the epoch to train next, counted from 0.
        last_step: batch (counted over the run) at which the optimizer last stepped.
        skipped_steps: batches and steps skipped because loss or gradients were not finite.
        bad_losses: batches in a row that were skipped.
        bad_steps: steps in a row that were skipped.
        AP_of_class: of each class at the last evaluation; nothing before the first.
        best: the best epoch so far.
        ranks: the processes that train together.
    """

    model: nn.Module
    parallel: nn.Module
    ema: ModelEMA[nn.Module]
    optimizer: Optimizer
    precision: Precision
    channels_last: bool = False
    memory_format: torch.memory_format = torch.contiguous_format
    frozen: Sequence[nn.Module] = ()
    next_epoch: int = 0
    last_step: int = -1
    skipped_steps: int = 0
    bad_losses: int = 0
    bad_steps: int = 0
    AP_of_class: tuple[float, ...] = ()
    best: BestEpoch = field(default_factory=BestEpoch)
    ranks: Ranks = field(default_factory=Ranks)


def order_in_memory(
    model: nn.Module, device: torch.device, *, channels_last: bool
) -> torch.memory_format:
    """Lay kernels out with their channels last, or as they are; returns how images must lie.

    On CPUs images stay as they are, and so do kernels that read few channels: there the gradient
    of a 1x1 kernel of stride 2 (a branch of the stem) is written outside its memory (torch 2.14.1,
    oneDNN with AVX-512; 3 to 8 channels crash, 16 do not).
    """
    if not channels_last:
        return torch.contiguous_format
    model.to(memory_format=torch.channels_last)
    if device.type != "cpu":
        return torch.channels_last
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.in_channels < MIN_CHANNELS_LAST:
            module.to(memory_format=torch.contiguous_format)
    return torch.contiguous_format


def start_training(
    model: nn.Module,
    layers: nn.ModuleList,
    ema: ModelEMA[nn.Module],
    hyp: OptimizerConfig,
    config: StateConfig,
    *,
    batch_size: int,
    patience: int = 0,
    ranks: Ranks | None = None,
) -> TrainingState:
    """A network, its average and its settings made ready for the first batch.

    Args:
        model: on its device; changed in place.
        layers: those of `model` that `config.freeze` counts.
        ema: its average.
        hyp: learning rate, momentum and weight decay.
        config: the rest.
        batch_size: images per batch, over all ranks.
        patience: see BestEpoch.
        ranks: the processes that train together; None is this one alone.

    Raises:
        ConfigError: a setting that this network or machine cannot follow.
    """
    ranks = ranks or Ranks()
    device = next(model.parameters()).device
    frozen, precision = freeze_layers(layers, config.freeze), Precision.choose(config.amp, device)
    channels_last = config.channels_last
    if channels_last is None:  # in all ranks the same, whatever machines they run on
        channels_last = ranks.broadcast(lambda: gains_by_channels_last(device, precision.dtype))
    for network in (model, ema.model):
        memory_format = order_in_memory(network, device, channels_last=channels_last)
    weight_decay = hyp.scaled_weight_decay(batch_size)
    optimizer = build_optimizer(
        model, config.optimizer, lr=hyp.lr0, momentum=hyp.momentum, weight_decay=weight_decay
    )
    parallel = ranks.parallel(model, device, shared_norms=config.sync_bn)
    if config.compile:
        check_compiler()
        parallel.compile()  # in place: the network's parameters keep their names
    return TrainingState(
        model=model, parallel=parallel, ema=ema, optimizer=optimizer, precision=precision,
        channels_last=channels_last, memory_format=memory_format, frozen=frozen,
        best=BestEpoch(patience), ranks=ranks,
    )  # fmt: skip


def describe_precision(state: TrainingState, config: StateConfig) -> str:
    """Numbers and memory format of a run in one line, and the flags that change a choice."""
    order = "channels last" if state.channels_last else "channels first"
    chosen = []
    if config.amp == "auto" and state.precision.dtype is not None:
        chosen.append("--amp off")
    if config.channels_last is None and state.channels_last:
        chosen.append("--no-channels-last")
    faster = f" (faster on this device; {' and '.join(chosen)} to change it)" if chosen else ""
    return f"Precision: {state.precision.describe()}, {order} in memory{faster}"


def freeze_layers(layers: nn.ModuleList, freeze: Sequence[int]) -> tuple[nn.Module, ...]:
    """Stop the gradients of some layers and return these layers.

    The training loop must also keep them in eval mode, or their norms' statistics would drift.

    Args:
        layers: the network's layers.
        freeze: one number N for the first N layers, several for just these.

    Raises:
        ConfigError: a number beyond the network, or nothing is left to train.
    """
    given, has = f"--freeze {' '.join(map(str, freeze))}", f"layers 0 to {len(layers) - 1}"
    chosen = range(freeze[0]) if len(freeze) == 1 else freeze
    for number in chosen:
        if not 0 <= number < len(layers):
            raise ConfigError(f"{given}: the network has {has}")
    frozen = tuple(layers[number] for number in chosen)
    for layer in frozen:
        layer.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in layers.parameters()):
        raise ConfigError(f"{given}: nothing is left to train; the network has {has}")
    return frozen


def check_compiler() -> None:
    """Refuse `--compile` where torch will find no compiler: its own error is late and long.

    Raises:
        ConfigError: there is none.
    """
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    if not any(shutil.which(name) for name in names):
        raise ConfigError(
            f"--compile: needs a C++ compiler, and there is no {' or '.join(names)}; install one, "
            "or leave --compile out"
        )
