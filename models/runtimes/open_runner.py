"""A weights file ready to run, whatever its format. Importing this module does not need torch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib import import_module

from models.formats.table import CHECKPOINT, TABLE, FormatRow
from models.runtimes.runner import Runner, Runtime
from utils.errors import CheckpointError, ConfigError

logger = logging.getLogger(__name__)
CHECKPOINT_SUFFIXES = CHECKPOINT.suffixes


def open_runner(
    weights: str, *, device: str = "", half: bool = False, table: Sequence[FormatRow] = TABLE
) -> Runner:
    """The network behind `--weights`.

    Args:
        weights: a checkpoint or an exported file or folder, known by how its path ends.
        device: as `--device` spells it.
        half: compute in float16; an exported file must have been exported so.
        table: formats to choose from.

    Raises:
        CheckpointError: not a file that can be run.
        ConfigError: the device or float16 is not to be had.
        MissingPackageError: the library for this kind of file is not installed.
    """
    path = weights.rstrip("/").lower()
    for row in table:
        if not path.endswith(row.suffixes) or (runtime := runtime_of(row)) is None:
            continue
        if not half:
            return _noted(weights, runtime.open(weights, device=device))
        if runtime.open_half is None:
            raise ConfigError(f"--half: {weights} computes in float32; leave out --half")
        return _noted(weights, runtime.open_half(weights, device=device))
    exported = [suffix for row in table for suffix in row.suffixes
                if suffix not in CHECKPOINT_SUFFIXES]  # fmt: skip
    raise CheckpointError(f"{weights}: neither a .pt checkpoint nor an {', '.join(exported)}")


def _noted(weights: str, runner: Runner) -> Runner:
    """The same runner; says where thresholds cannot do what the user expects of them."""
    if runner.suppresses:
        logger.info(
            "%s: drops boxes itself, by the thresholds it was exported with: those given here can "
            "only be stricter, and AP counts what it leaves", weights,
        )  # fmt: skip
    return runner


def runtime_of(row: FormatRow) -> Runtime | None:
    """What opens a format's files; None where that is another format's."""
    if not row.opened_by:
        return row.format.runtime
    module, _, name = row.opened_by.rpartition(".")
    found: Runtime = getattr(import_module(module), name)
    return found


def open_networks(
    weights: Sequence[str], *, device: str = "", half: bool = False, augment: bool = False
) -> Runner:
    """The networks behind several `--weights` as one, whose predictions count together.

    Args:
        weights: at least one file, as in `open_runner`.
        device: as `--device` spells it.
        half: compute in float16.
        augment: each network sees each image at three sizes (models/runtimes/augmented.py).

    Raises:
        ConfigError: the networks do not fit together, or cannot be augmented; and as `open_runner`.
    """
    runners: list[Runner] = [open_runner(path, device=device, half=half) for path in weights]
    if augment:
        from models.runtimes.augmented import AugmentedRunner

        runners = [
            AugmentedRunner(runner, path) for runner, path in zip(runners, weights, strict=True)
        ]
    if len(runners) == 1:
        return runners[0]
    from models.runtimes.ensemble import EnsembleRunner

    return EnsembleRunner(runners, weights)
