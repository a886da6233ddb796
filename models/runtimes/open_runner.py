"""A weights file ready to run, whatever kind it is. Importing this module does not need torch."""

from __future__ import annotations

from pathlib import Path

from models.formats.ncnn import FOLDER_SUFFIX as NCNN_SUFFIX
from models.formats.ncnn import NcnnRunner
from models.formats.openvino import FOLDER_SUFFIX, OpenVinoRunner
from models.formats.rknn import FOLDER_SUFFIX as RKNN_SUFFIX
from models.formats.rknn import RknnRunner
from models.formats.vendor_files import VENDORS
from models.runtimes.runner import OnnxRunner, Runner
from utils.errors import CheckpointError, ConfigError, MissingPackageError

CHECKPOINT_SUFFIXES = (".pt", ".pth")
SCRIPT_SUFFIX = ".torchscript"


def open_runner(weights: str, *, device: str = "", half: bool = False) -> Runner:
    """The network behind `--weights`.

    Args:
        weights: a checkpoint (.pt) or an exported file (.onnx, .torchscript, or the folder of an
            OpenVINO, ncnn, RKNN or vendor's network).
        device: as `--device` spells it.
        half: compute in float16; an exported file must have been exported so.

    Raises:
        CheckpointError: not a file that can be run.
        ConfigError: the device or float16 is not to be had.
        MissingPackageError: the library for this kind of file is not installed.
    """
    weights = _network_in(weights)
    suffix = Path(weights).suffix.lower()
    if suffix == ".onnx":
        runner = OnnxRunner(weights, device=device)
        if half and not runner.computes_in_half:
            raise ConfigError(f"--half: {weights} computes in float32; leave out --half")
        return runner
    if suffix == ".xml" or weights.rstrip("/").endswith(FOLDER_SUFFIX):
        _refuse_half(weights, half=half)
        return OpenVinoRunner(weights, device=device)
    if weights.rstrip("/").endswith(NCNN_SUFFIX):
        _refuse_half(weights, half=half)
        return NcnnRunner(weights, device=device)
    if weights.rstrip("/").endswith(RKNN_SUFFIX):
        _refuse_half(weights, half=half)
        return RknnRunner(weights, device=device)
    if suffix not in (*CHECKPOINT_SUFFIXES, SCRIPT_SUFFIX):
        raise CheckpointError(
            f"{weights}: neither a .pt checkpoint nor an .onnx, .torchscript, OpenVINO, ncnn or "
            "RKNN file"
        )
    try:
        # .onnx files run where torch is not installed
        from models.formats.torchscript import TorchScriptRunner
        from models.runtimes.torch_runner import TorchRunner
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"running {weights} needs the package {error.name}: pip install torch torchvision"
        ) from None
    if suffix == SCRIPT_SUFFIX:
        _refuse_half(weights, half=half)
        return TorchScriptRunner(weights, device=device)
    return TorchRunner(weights, device=device, half=half)


def _network_in(weights: str) -> str:
    """The ONNX file of a folder for a vendor's compiler; other weights as they are."""
    if not weights.rstrip("/").endswith(tuple(f"_{vendor}_model" for vendor in VENDORS)):
        return weights
    found = sorted(Path(weights).glob("*.onnx"))
    if len(found) != 1:
        raise CheckpointError(f"{weights}: holds {len(found)} .onnx files, expected one")
    return str(found[0])


def _refuse_half(weights: str, *, half: bool) -> None:
    if half:
        raise ConfigError(f"--half: {weights} computes in float32; leave out --half")
