"""How far a run has come, as plain values that a checkpoint can hold."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from utils.engine.best_epoch import BestEpoch
from utils.engine.ema import ModelT
from utils.engine.training_state import TrainingState


def progress_of(
    state: TrainingState[ModelT], best: BestEpoch, epoch: int, batches_per_epoch: int
) -> dict[str, Any]:
    """Everything besides the weights that the epochs after `epoch` depend on."""
    return {
        "epoch": epoch,
        "optimizer": state.optimizer.state_dict()["state"],
        "scaler": state.precision.scaler.state_dict(),
        "ema_updates": state.ema.updates,
        "batches_since_step": (epoch + 1) * batches_per_epoch - 1 - state.last_step,
        "skipped_steps": state.skipped_steps,
        "AP_of_class": list(state.AP_of_class),
        "best": {"epoch": best.epoch, "fitness": best.fitness, "judged": best.evaluated},
        "random": _random_states(),
    }


def continue_from(
    progress: Mapping[str, Any],
    state: TrainingState[ModelT],
    best: BestEpoch,
    batches_per_epoch: int,
) -> int:
    """Bring a fresh state to where `progress` was; the weights are loaded elsewhere.

    The optimizer keeps the settings it was made with: batch size and length of a run may change.

    Returns:
        The epoch to train next.
    """
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": progress["optimizer"], "param_groups": groups})
    if progress["scaler"]:  # empty where the run had no loss scaling, on a CPU for example
        state.precision.scaler.load_state_dict(progress["scaler"])
    state.ema.updates = progress["ema_updates"]
    next_epoch = int(progress["epoch"]) + 1
    state.last_step = next_epoch * batches_per_epoch - 1 - int(progress["batches_since_step"])
    state.skipped_steps = progress["skipped_steps"]
    state.AP_of_class = tuple(progress.get("AP_of_class", ()))  # older checkpoints have none
    best.epoch, best.fitness = progress["best"]["epoch"], progress["best"]["fitness"]
    best.evaluated = progress["best"]["judged"]
    _restore_random_states(progress["random"])
    return next_epoch


def _random_states() -> dict[str, Any]:
    """Of Python, numpy and torch, without any class of theirs."""
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - the global one
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys, np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore_random_states(states: Mapping[str, Any]) -> None:
    random.setstate(states["python"])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if len(states["cuda"]) == torch.cuda.device_count():  # else another machine: nothing to restore
        torch.cuda.set_rng_state_all(states["cuda"])
