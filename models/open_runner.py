"""A weights file ready to run, whatever kind it is. Importing this module does not need torch."""

from __future__ import annotations

from pathlib import Path

from utils.deploy.runner import OnnxRunner, Runner
from utils.errors import CheckpointError, ConfigError, MissingPackageError

CHECKPOINT_SUFFIXES = (".pt", ".pth")


def open_runner(weights: str, *, device: str = "", half: bool = False) -> Runner:
    """The network behind `--weights`.

    Args:
        weights: a checkpoint (.pt) or an exported file (.onnx).
        device: as `--device` spells it.
        half: compute in float16; an exported file must have been exported so.

    Raises:
        CheckpointError: not a file that can be run.
        ConfigError: the device or float16 is not to be had.
        MissingPackageError: the library for this kind of file is not installed.
    """
    suffix = Path(weights).suffix.lower()
    if suffix == ".onnx":
        runner = OnnxRunner(weights, device=device)
        if half and not runner.computes_in_half:
            raise ConfigError(f"--half: {weights} computes in float32; leave out --half")
        return runner
    if suffix not in CHECKPOINT_SUFFIXES:
        raise CheckpointError(f"{weights}: neither a .pt checkpoint nor an .onnx file")
    try:
        from models.torch_runner import TorchRunner  # .onnx files run where torch is not installed
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"running {weights} needs the package {error.name}: pip install torch torchvision"
        ) from None
    return TorchRunner(weights, device=device, half=half)
