"""How far a run has come, saved in its last checkpoint, and how it goes on from there."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from utils.checkpoint import Checkpoint, load_checkpoint
from utils.cli import check_options
from utils.engine.optim import load_optimizer_state
from utils.engine.training_state import TrainingState
from utils.errors import ConfigError
from utils.flag_values import check_kind
from utils.logs import counted, flag_of
from utils.path_kind import path_kind
from utils.train_config import NEWEST, TrainConfig

logger = logging.getLogger(__name__)
# What may differ from the run that is continued; everything else would change what was learned.
CHANGEABLE = frozenset(
    ("resume", "project", "epochs", "batch_size", "device", "sync_bn", "workers", "data", "cache",
     "patience", "save_period", "nosave", "noplots", "report", "teacher", "no_cache_index")
)  # fmt: skip


def progress_of(state: TrainingState, epoch: int, batches_per_epoch: int) -> dict[str, Any]:
    """Everything besides the weights that the epochs after `epoch` depend on, in plain values."""
    best = state.best
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


def continue_from(resumed: ResumedRun | None, state: TrainingState, batches_per_epoch: int) -> None:
    """Bring a fresh state, whose network has a run's weights, to where that run was, if any.

    The optimizer keeps the settings it was made with: batch size and length of a run may change.

    Raises:
        ValueError: the checkpoint holds no progress.
    """
    if resumed is None:
        return
    checkpoint, progress = resumed.checkpoint, resumed.checkpoint.training
    if progress is None:
        raise ValueError("the checkpoint holds no progress")
    load_optimizer_state(state.optimizer, progress["optimizer"])
    if progress["scaler"]:  # empty where the run had no loss scaling, on a CPU for example
        state.precision.scaler.load_state_dict(progress["scaler"])
    state.ema.model.load_state_dict(checkpoint.best_weights)
    state.ema.updates = progress["ema_updates"]
    state.next_epoch = int(progress["epoch"]) + 1
    state.last_step = state.next_epoch * batches_per_epoch - 1 - int(progress["batches_since_step"])
    state.skipped_steps = progress["skipped_steps"]
    state.AP_of_class = tuple(progress.get("AP_of_class", ()))  # older checkpoints have none
    best = progress["best"]
    state.best.epoch, state.best.fitness = best["epoch"], best["fitness"]
    state.best.evaluated = best["judged"]
    _restore_random_states(progress["random"])
    logger.info("Continuing with epoch %d", state.next_epoch + 1)


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


@dataclass(frozen=True, slots=True)
class ResumedRun:
    """A run that was cut off, or is to go on.

    Attributes:
        last: its last checkpoint.
        checkpoint: what that holds.
        progress: its training state.
        config: the settings it was started with.
        hyp: its hyper-parameters, as `hyp.yaml` has them.
    """

    last: Path
    checkpoint: Checkpoint
    progress: Mapping[str, Any]
    config: TrainConfig
    hyp: Mapping[str, Any]

    @property
    def next_epoch(self) -> int:
        """The epoch to train next, counted from 0."""
        return int(self.progress["epoch"]) + 1

    @property
    def folder(self) -> Path:
        """Of the run."""
        return self.last.parents[1]


def read_resumed_run(config: TrainConfig) -> ResumedRun | None:
    """The run that `--resume` names; None where it is not given.

    Raises:
        ConfigError: there is none, the file is no checkpoint of a run, or a flag is wrong.
        CheckpointError: it cannot be read.
    """
    if config.resume is None:
        return None
    check_options(config, TrainConfig)
    last = _newest(Path(config.project)) if config.resume == NEWEST else Path(config.resume)
    last = last.absolute()
    if path_kind(in_folder := last / "weights" / "last.pt") == "file":
        raise ConfigError(f"--resume {last}: is the folder of a run; give {in_folder}")
    checkpoint = load_checkpoint(last)
    settings = checkpoint.config
    if checkpoint.training is None or not {"opt", "hyp"} <= settings.keys():
        raise ConfigError(
            f"--resume {last}: holds weights, but not where its run stood; give the last.pt of a "
            "run, or start a new one with --weights"
        )
    if last.parent.name != "weights":
        raise ConfigError(
            f"--resume {last}: is not in the weights/ folder of a run, so there is nowhere to go "
            "on; put it back there"
        )
    config_of_run = _stored_config(last, settings["opt"])
    return ResumedRun(last, checkpoint, checkpoint.training, config_of_run, settings["hyp"])


def settings_to_continue(config: TrainConfig) -> TrainConfig | None:
    """The settings of the run that `--resume` names: what flags that are not given mean.

    Raises:
        UserError: as `read_resumed_run`.
    """
    resumed = read_resumed_run(config)
    if resumed is None:
        return None
    # A bare --resume looks for the newest run again, and must look in the same project.
    project = config.project if config.resume == NEWEST else resumed.config.project
    return replace(resumed.config, resume=str(resumed.last), project=project, report=config.report)


def continued(config: TrainConfig) -> TrainConfig:
    """The settings of a call from Python: those left at their defaults are a resumed run's.

    Raises:
        UserError: as `read_resumed_run`.
    """
    check_kind(config, TrainConfig)
    stored = settings_to_continue(config)
    if stored is None:
        return config
    given = {each.name: getattr(config, each.name) for each in fields(config)
             if getattr(config, each.name) != each.default}  # fmt: skip
    return replace(stored, **given)


def _stored_config(last: Path, stored: dict[str, Any]) -> TrainConfig:
    known = {each.name for each in fields(TrainConfig)}
    if unknown := stored.keys() - known:
        raise ConfigError(
            f"--resume {last}: was made by another version, with settings this one does not have "
            f"({', '.join(sorted(unknown))}); start a new run with --weights"
        )
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
    }
    values.setdefault("channels_last", False)  # of runs older than the flag
    return TrainConfig(**values)


def _newest(project: Path) -> Path:
    """The last.pt that was written last.

    Raises:
        ConfigError: there is none.
    """
    found = sorted(project.glob("*/weights/last.pt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ConfigError(
            f"--resume: no run with a weights/last.pt in {project}; name one: --resume PATH"
        )
    return found[-1]


def check_resumable(resumed: ResumedRun, config: TrainConfig, class_names: tuple[str, ...]) -> None:
    """Refuse what a resumed run cannot change, and a run that has nothing left to do.

    Args:
        resumed: the run.
        config: the settings to go on with.
        class_names: of the data set, in class-id order.

    Raises:
        ConfigError: something differs that must not, or all epochs are done.
    """
    _check_settings(config, resumed)
    _check_epochs(config, resumed)
    known = resumed.checkpoint.class_names
    if class_names != known:
        trained = counted(len(known), "class")
        raise ConfigError(
            f"--resume {resumed.last}: was trained on {trained} ({', '.join(known)}), "
            f"the data set has {len(class_names)} ({', '.join(class_names)})"
        )
    if resumed.progress.get("teacher", "") != teacher_digest(config.teacher):
        raise ConfigError(
            f"--teacher {config.teacher or '(none)'}: is not the one that the run in "
            f"{resumed.folder} learnt from; give that one"
        )


def teacher_digest(path: str) -> str:
    """SHA-256 of a teacher's file, by which a resumed run knows it again; empty without a path.

    Raises:
        ConfigError: it cannot be read.
    """
    if not path:
        return ""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"--teacher {path}: cannot be read ({error.strerror})") from None


def _check_settings(config: TrainConfig, resumed: ResumedRun) -> None:
    for name in (each.name for each in fields(config)):
        value, before = getattr(config, name), getattr(resumed.config, name)
        if name not in CHANGEABLE and value != before:
            allowed = ", ".join(sorted("--" + each.replace("_", "-") for each in CHANGEABLE))
            started = "has it" if before is True else f"has {_as_text(before)}"
            started = "was started without" if before in (None, False, "") else started
            raise ConfigError(
                f"{_as_flag(name, value)}: the run in {resumed.folder} {started}; with --resume "
                f"only these may change: {allowed}"
            )
    if config.resume != NEWEST and config.project != resumed.config.project:
        raise ConfigError(
            f"--project {config.project}: the run goes on in {resumed.folder}; leave it out"
        )


def _as_flag(name: str, value: object) -> str:
    """A setting as it is given on the command line."""
    if isinstance(value, bool):
        return flag_of(name) if value else "--no-" + flag_of(name).removeprefix("--")
    return f"{flag_of(name)} {_as_text(value)}"


def _as_text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _check_epochs(config: TrainConfig, resumed: ResumedRun) -> None:
    done, best = resumed.next_epoch, resumed.progress["best"]
    if 0 < config.patience <= best["judged"] - best["epoch"]:
        raise ConfigError(
            f"--resume {resumed.last}: the run stopped because no epoch was better for "
            f"{config.patience}; to go on, give more: --patience {2 * config.patience} (0 never "
            "stops)"
        )
    if done >= config.epochs:
        raise ConfigError(
            f"--resume {resumed.last}: finished after {counted(done, 'epoch')}; "
            f"to go on, give more: --epochs {2 * done}"
        )
