"""Rockchip's files: compiled by rknn-toolkit2, and run in its simulator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.formats.rknn_layers import NpuLayer, read_layers
from models.formats.rknn_process import RknnProcess
from models.quantization.calibration_images import Images, write_images
from models.runtimes.heads import in_batches
from models.runtimes.sidecar import Sidecar, of_compiled, write_metadata
from utils.errors import CheckpointError, ConfigError
from utils.letterbox import to_pixels
from utils.structures import FloatArray

FOLDER_SUFFIX = "_rknn_model"
PLATFORM = "rk3588"
NETWORK, COMPILED, DATASET, ANCHORS = "model.onnx", "model.rknn", "dataset.txt", "anchors.txt"


def write_rknn(
    folder: Path, network: Path, images: Images, metadata: Mapping[str, Any]
) -> tuple[RknnRunner, list[NpuLayer]]:
    """Compile an ONNX file that ends in probabilities.

    Args:
        folder: gets `model.rknn` for the board, `model.onnx` and the images it was calibrated
            on, which the simulator needs, and the anchors one a line as Rockchip's demos read them.
        network: the ONNX file.
        images: to calibrate on.
        metadata: key -> value, for the JSON file beside the network, which has no room for it.

    Raises:
        MissingPackageError: the toolkit is not here.
        CheckFailedError: the network cannot be compiled.
    """
    process = RknnProcess()
    (folder / NETWORK).write_bytes(network.read_bytes())
    names = write_images(folder, images)
    (folder / DATASET).write_text("\n".join(names) + "\n", encoding="utf-8")
    sides = [side for level in metadata["anchors"] for side in level]
    (folder / ANCHORS).write_text("\n".join(f"{side:g}" for side in sides) + "\n", encoding="utf-8")
    write_metadata(folder, {**of_compiled(metadata), "platform": PLATFORM})
    printed = process.build(folder / NETWORK, folder / DATASET, PLATFORM, folder / COMPILED)
    return RknnRunner(folder, process=process), read_layers(printed)


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
        self.batch_size: int | None = 1
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
