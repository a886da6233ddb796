"""A folder with an ONNX file and what a vendor's compiler wants beside it: templates, not run here.

Every folder holds the network, `metadata.json` for programs that read the result, `commands.txt`,
and, where the compiler calibrates and there are images, those images letterboxed as the network
sees them. Pixels go from 0-255 to the network's 0-1 inside the compiled network: nothing else may
divide them again, and `metadata.json` says so.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from models.formats.format import NetworkFile
from models.quantization.calibration_images import FOLDER as CALIBRATION
from models.runtimes.onnx_runner import OnnxRunner
from models.runtimes.runner import Runtime
from models.runtimes.sidecar import write_metadata
from utils.errors import CheckpointError

COMMANDS = "commands.txt"
CALIBRATION_ARRAY, CALIBRATION_ARCHIVE = "calibration.npy", "calibration.tar"
STALE = (CALIBRATION, CALIBRATION_ARRAY, CALIBRATION_ARCHIVE)  # of an export before


def open_folder(path: str | Path, *, device: str = "") -> OnnxRunner:
    """The ONNX file of a folder in onnxruntime.

    Raises:
        CheckpointError: there is none, or several; and as OnnxRunner.
    """
    found = sorted(Path(path).glob("*.onnx"))
    if len(found) != 1:
        raise CheckpointError(f"{path}: holds {len(found)} .onnx files, expected one")
    return OnnxRunner(found[0], device=device)


def write_texts(source: NetworkFile, folder: Path, *commands: str) -> None:
    """Write `metadata.json` of the compiled network and `commands.txt`."""
    write_metadata(folder, replace(source.metadata, compiled=True))
    if source.images is None and source.preset.takes_images:
        commands = (*commands, "# written without --data: calibrate on images of your own")
    (folder / COMMANDS).write_text("\n".join(commands) + "\n", encoding="utf-8")


def quoted(source: NetworkFile) -> tuple[str, str]:
    """The network's file name, and that without suffix, as a shell takes them."""
    return shlex.quote(source.path.name), shlex.quote(source.path.stem)


NETWORK_IN_FOLDER = Runtime("onnxruntime", open_folder)
