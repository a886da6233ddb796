"""PyTorch checkpoints (.pt), ours and YOLOv5's: run by PyTorch, written by train.py and convert.py.

PyTorch is imported when a file is opened, so that this module loads where it is not installed.
"""

from __future__ import annotations

from pathlib import Path

from models.formats.format import Format
from models.runtimes.runner import Runner, Runtime
from utils.errors import missing_torch


def open_checkpoint(path: str | Path, *, device: str = "", half: bool = False) -> Runner:
    """A checkpoint in deploy form, ready to run.

    Args:
        path: the file.
        device: as `--device` spells it.
        half: compute in float16 (GPU only).

    Raises:
        CheckpointError: it cannot be read.
        ConfigError: the device is not available, or does not compute in float16.
        MissingPackageError: PyTorch is not installed.
    """
    try:
        from models.runtimes.torch_runner import TorchRunner  # other formats run without torch
    except ModuleNotFoundError as error:
        raise missing_torch(path, error) from None
    return TorchRunner(path, device=device, half=half)


def open_half(path: str | Path, *, device: str = "") -> Runner:
    """As `open_checkpoint`, in float16."""
    return open_checkpoint(path, device=device, half=True)


FORMAT = Format(
    name="PyTorch checkpoint",
    runtime=Runtime("PyTorch", open_checkpoint, open_half=open_half),
)
