"""What a preset needs beside requirements.txt."""

from __future__ import annotations

import importlib.util

from models.formats.presets import Preset
from models.formats.rknn_process import find_python
from utils.errors import MissingPackageError

_PACKAGES = {"openvino": ("openvino",), "ncnn": ("ncnn", "pnnx")}  # by kind of file


def check_installed(preset: Preset) -> None:
    """Say at once what is missing.

    Raises:
        MissingPackageError: naming the package, and what installs it.
    """
    if preset.kind == "rknn":
        find_python()
    needed = _PACKAGES.get(preset.kind, ())
    if preset.kind == "openvino" and preset.quantized:
        needed = (*needed, "nncf")
    for name in needed:
        if importlib.util.find_spec(name) is None:
            raise MissingPackageError(
                f"preset files ending in {preset.suffix} need {name}: "
                "pip install -r requirements-deploy.txt"
            )
