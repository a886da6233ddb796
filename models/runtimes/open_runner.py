"""A weights file ready to run, whatever its format. Importing this module does not need torch."""

from __future__ import annotations

from collections.abc import Sequence

from models.formats import checkpoint
from models.formats.format import Format
from models.formats.table import FORMATS
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
