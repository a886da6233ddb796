"""RKNN: a folder for Rockchip's chips, compiled by rknn-toolkit2 and run in its simulator.

Made from an ONNX file that ends in probabilities, the head of Rockchip's demos. The network takes
pixels 0-255 and divides them itself. Metadata are in a JSON file beside it. The toolkit runs in a
Python of its own (rknn_process).
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.formats.format import (
    NPU_OPERATORS,
    Format,
    NetworkFile,
    Preset,
    Quantization,
    QuantizedNetwork,
)
from models.formats.rknn_layers import off_npu, read_layers
from models.formats.rknn_process import RknnProcess, find_python
from models.quantization.calibration_images import write_images
from models.runtimes.heads import in_batches
from models.runtimes.runner import Runtime
from models.runtimes.sidecar import Sidecar, write_metadata
from utils.errors import CheckFailedError, CheckpointError, ConfigError
from utils.letterbox import to_pixels
from utils.structures import FloatArray

PLATFORM = "rk3588"
NETWORK, COMPILED, DATASET, ANCHORS = "model.onnx", "model.rknn", "dataset.txt", "anchors.txt"


def write_rknn(source: NetworkFile, folder: Path, method: str) -> QuantizedNetwork:
    """Compile a network whose layers are all on the NPU.

    Raises:
        CheckFailedError: one is not; and as `compile_rknn`.
        MissingPackageError: the toolkit is not here.
    """
    del method  # there is one
    compiled = compile_rknn(source, folder)
    if compiled.npu_layers is not None and (elsewhere := off_npu(compiled.npu_layers)):
        raise CheckFailedError(
            f"{len(elsewhere)} layers do not run on the NPU ({', '.join(elsewhere[:3])}); "
            "no file is left behind"
        )
    return compiled


def compile_rknn(source: NetworkFile, folder: Path) -> QuantizedNetwork:
    """Compile an ONNX file, wherever its layers run.

    Args:
        source: the ONNX file, and the images to calibrate on.
        folder: gets `model.rknn` for the board, `model.onnx` and the images it was calibrated
            on, which the simulator needs, and the anchors one a line as Rockchip's demos read them.

    Raises:
        MissingPackageError: the toolkit is not here.
        CheckFailedError: the network cannot be compiled.
        ValueError: there are no images.
    """
    if source.images is None:
        raise ValueError(f"{source.path}: no images to calibrate on")
    process = RknnProcess()
    (folder / NETWORK).write_bytes(source.path.read_bytes())
    names = write_images(folder, source.images)
    (folder / DATASET).write_text("\n".join(names) + "\n", encoding="utf-8")
    sides = [side for level in source.metadata.anchors for side in level]
    (folder / ANCHORS).write_text("\n".join(f"{side:g}" for side in sides) + "\n", encoding="utf-8")
    write_metadata(folder, replace(source.metadata, compiled=True, platform=PLATFORM))
    printed = process.build(folder / NETWORK, folder / DATASET, PLATFORM, folder / COMPILED)
    return QuantizedNetwork(RknnRunner(folder, process=process), read_layers(printed))


class RknnRunner:
    """A folder of Rockchip's files in the toolkit's simulator, one image at a time."""

    def __init__(
        self, path: str | Path, *, device: str = "", process: RknnProcess | None = None
    ) -> None:
        """Open the folder.

        Args:
            path: the folder.
            device: `cpu` or empty.
            process: has built this network already; without it the network is built again, since
                the simulator runs nothing else.

        Raises:
            CheckpointError: not one that export.py wrote.
            ConfigError: another device than the CPU.
            MissingPackageError: the toolkit is not here.
        """
        if device not in ("", "cpu"):
            raise ConfigError(f"--device {device}: RKNN files run in the simulator on cpu")
        self.path = Path(path)
        sidecar = Sidecar.read(self.path)
        self.class_names, self.stride = sidecar.class_names, sidecar.stride
        self.input_hw: tuple[int | None, int | None] = sidecar.input_hw
        self.known_hw = sidecar.known_hw
        self.batch_size: int | None = 1
        self.suppresses = False  # a sidecar is one of raw maps
        self._heads = sidecar.heads
        if process is None:
            for name in (NETWORK, DATASET):
                if not (self.path / name).is_file():
                    raise CheckpointError(
                        f"{self.path / name}: no such file, which the simulator needs; export the "
                        "checkpoint again"
                    )
            process = RknnProcess()
            platform = json.loads(sidecar.texts.get("platform", f'"{PLATFORM}"'))
            process.build(self.path / NETWORK, self.path / DATASET, platform, None)
        self._process = process

    def run(self, images: FloatArray) -> FloatArray:
        """(B, 3, H, W) RGB in 0-1 -> (B, N, 5 + C) decoded predictions, boxes in input pixels."""
        return in_batches(self._run_once, images, self.batch_size)

    def _run_once(self, images: npt.NDArray[Any]) -> FloatArray:
        pixels = to_pixels(images).transpose(0, 2, 3, 1)
        return self._heads.decode(self._process.run(np.ascontiguousarray(pixels)))


SIMULATOR = Runtime("rknn-toolkit2's simulator", RknnRunner, simulated=True)
FORMAT = Format(
    name="RKNN",
    runtime=SIMULATOR,
    presets=(
        Preset(
            name="rknn", description="Rockchip RK3588", outputs="probabilities, 8 bits",
            head="sigmoid", suffix="_rknn_model", runtime=SIMULATOR, opset=12,
            opsets=range(11, 20), operators=NPU_OPERATORS, dynamic=False, one_image=True,
            is_folder=True, quantization=Quantization(write_rknn, methods=("normal",)),
            find_toolkit=find_python,
        ),
    ),
)  # fmt: skip
