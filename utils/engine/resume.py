"""A training run that was cut off, found again by its last checkpoint."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.checkpoint import Checkpoint, load_checkpoint
from utils.errors import ConfigError
from utils.hyperparameters import Hyperparameters
from utils.strict_yaml import to_dataclass
from utils.train_config import NEWEST, TrainConfig

# What may differ from the run that is continued; everything else would change what was learned.
CHANGEABLE = frozenset(
    ("resume", "project", "epochs", "batch_size", "device", "sync_bn", "workers", "data", "cache",
     "patience", "save_period", "nosave", "noplots", "report", "teacher")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ResumedRun:
    """Where a run stands.

    Attributes:
        last: its last checkpoint.
        checkpoint: what that holds.
        progress: its training state.
        config: the settings it was started with.
        hyp: its hyper-parameters.
    """

    last: Path
    checkpoint: Checkpoint
    progress: dict[str, Any]
    config: TrainConfig
    hyp: Hyperparameters

    @property
    def folder(self) -> Path:
        """Of the run."""
        return self.last.parents[1]


def read_resumed_run(config: TrainConfig) -> ResumedRun | None:
    """The run that `--resume` names; None where it is not given.

    Raises:
        ConfigError: there is none, or the file is no checkpoint of a run.
        CheckpointError: it cannot be read.
    """
    if config.resume is None:
        return None
    last = _newest(Path(config.project)) if config.resume == NEWEST else Path(config.resume)
    last = last.absolute()
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
    return ResumedRun(
        last=last,
        checkpoint=checkpoint,
        progress=checkpoint.training,
        config=_stored_config(last, settings["opt"]),
        hyp=to_dataclass(f"{last}: hyp", settings["hyp"], Hyperparameters),
    )


def settings_to_continue(config: TrainConfig) -> TrainConfig | None:
    """The settings of the run that `--resume` names: what flags that are not given mean.

    Raises:
        UserError: as `read_resumed_run`.
    """
    resumed = read_resumed_run(config)
    if resumed is None:
        return None
    # A bare --resume looks for the newest run again, and must look in the same place.
    project = config.project if config.resume == NEWEST else resumed.config.project
    return dataclasses.replace(
        resumed.config, resume=str(resumed.last), project=project, report=config.report
    )


def check_changes(config: TrainConfig, resumed: ResumedRun) -> None:
    """Refuse what a resumed run cannot change, and a run that has nothing left to do.

    Raises:
        ConfigError: a setting differs that must not, or all epochs are done.
    """
    for name, value in dataclasses.asdict(config).items():
        before = getattr(resumed.config, name)
        if name not in CHANGEABLE and value != before:
            flag = "--" + name.replace("_", "-")
            allowed = ", ".join(sorted("--" + each.replace("_", "-") for each in CHANGEABLE))
            raise ConfigError(
                f"{flag} {value}: the run in {resumed.folder} has {before}; with --resume only "
                f"these may change: {allowed}"
            )
    if config.resume != NEWEST and config.project != resumed.config.project:
        raise ConfigError(
            f"--project {config.project}: the run goes on in {resumed.folder}; leave it out"
        )
    done = int(resumed.progress["epoch"]) + 1
    best = resumed.progress["best"]
    if 0 < config.patience <= best["judged"] - best["epoch"]:
        raise ConfigError(
            f"--resume {resumed.last}: the run stopped because no epoch was better for "
            f"{config.patience}; to go on, give more: --patience {2 * config.patience} (0 never "
            "stops)"
        )
    if done >= config.epochs:
        raise ConfigError(
            f"--resume {resumed.last}: all {config.epochs} epochs are done; "
            f"to go on, give more: --epochs {2 * done}"
        )


def check_classes(class_names: tuple[str, ...], resumed: ResumedRun) -> None:
    """Refuse a data set of other classes.

    Raises:
        ConfigError: they differ.
    """
    known = resumed.checkpoint.class_names
    if class_names != known:
        raise ConfigError(
            f"--resume {resumed.last}: was trained on {len(known)} classes ({', '.join(known)}), "
            f"the data set has {len(class_names)} ({', '.join(class_names)})"
        )


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


def _stored_config(last: Path, stored: dict[str, Any]) -> TrainConfig:
    fields = {field.name for field in dataclasses.fields(TrainConfig)}
    if unknown := stored.keys() - fields:
        raise ConfigError(
            f"--resume {last}: was made by another version, with settings this one does not have "
            f"({', '.join(sorted(unknown))}); start a new run with --weights"
        )
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
    }
    return TrainConfig(**values)
