"""A weights file ready to run, whatever its format. Importing this module does not need torch."""

from __future__ import annotations

from collections.abc import Sequence

from models.formats import checkpoint
from models.formats.format import Format
from models.formats.table import FORMATS
from models.runtimes.augmented import AugmentedRunner
from models.runtimes.ensemble import EnsembleRunner
from models.runtimes.runner import Runner
from utils.errors import CheckpointError, ConfigError

CHECKPOINT_SUFFIXES = checkpoint.FORMAT.suffixes


def open_runner(
    weights: str, *, device: str = "", half: bool = False, formats: Sequence[Format] = FORMATS
) -> Runner:
    """The network behind `--weights`.

    Args:
        weights: a checkpoint or an exported file or folder, known by how its path ends.
        device: as `--device` spells it.
        half: compute in float16; an exported file must have been exported so.
        formats: those to choose from.

    Raises:
        CheckpointError: not a file that can be run.
        ConfigError: the device or float16 is not to be had.
        MissingPackageError: the library for this kind of file is not installed.
    """
    path = weights.rstrip("/").lower()
    for each in formats:
        if each.runtime is None or not path.endswith(each.suffixes):
            continue
        if not half:
            return each.runtime.open(weights, device=device)
        if each.runtime.open_half is None:
            raise ConfigError(f"--half: {weights} computes in float32; leave out --half")
        return each.runtime.open_half(weights, device=device)
    exported = [suffix for each in formats for suffix in each.suffixes
                if suffix not in CHECKPOINT_SUFFIXES]  # fmt: skip
    raise CheckpointError(f"{weights}: neither a .pt checkpoint nor an {', '.join(exported)}")


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
        runners = [
            AugmentedRunner(runner, path) for runner, path in zip(runners, weights, strict=True)
        ]
    return runners[0] if len(runners) == 1 else EnsembleRunner(runners, weights)
