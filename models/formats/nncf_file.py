"""OpenVINO files that compute in 8 bits, quantized by NNCF."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from models.formats import nncf_worker
from models.quantization.calibration_images import Images, write_array
from utils.errors import CheckFailedError, MissingPackageError

PROJECT = Path(__file__).resolve().parents[2]
PRESETS = ("performance", "mixed")


def quantize_openvino(source: Path, target: Path, images: Images, preset: str) -> None:
    """Write the 8-bit form of an OpenVINO file that ends in raw maps.

    Args:
        source: its .xml.
        target: .xml to write; a .bin comes beside it.
        images: to calibrate on.
        preset: of PRESETS: `performance` has symmetric activations, `mixed` has not.

    Raises:
        MissingPackageError: NNCF is not installed.
        CheckFailedError: NNCF cannot do it.
    """
    if importlib.util.find_spec("nncf") is None:
        raise MissingPackageError(
            "OpenVINO files in 8 bits need nncf: pip install -r requirements-deploy.txt"
        )
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        array = Path(folder).resolve() / "images.npy"  # the worker runs in that folder
        write_array(array, images)
        worker = str(Path(nncf_worker.__file__).resolve())
        # The worker imports the project, and nothing from its own folder, where `openvino.py` lies.
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        command = [sys.executable, "-P", worker, str(source.resolve()), str(array), preset,
                   str(target.resolve())]  # fmt: skip
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        raise CheckFailedError(f"NNCF: {' '.join(done.stderr.split())[-300:]}")
