"""OpenVINO files: written from ONNX, and run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.formats.openvino_package import import_openvino
from models.runtimes.heads import Heads, in_batches
from models.runtimes.network_metadata import NetworkMetadata
from utils.errors import CheckpointError, ConfigError
from utils.structures import FloatArray

FOLDER_SUFFIX = "_openvino_model"
_METADATA = "model_info"  # where YOLOv5 keeps it too


def write_openvino(
    folder: Path, onnx_file: Path, name: str, metadata: Mapping[str, Any], *, halved: bool
) -> None:
    """Convert an ONNX file to `name.xml` and `name.bin` in a folder.

    Args:
        folder: where to write.
        onnx_file: what to convert.
        name: stem of the files.
        metadata: key -> value, stored as JSON texts.
        halved: weights in float16.

    Raises:
        MissingPackageError: OpenVINO is not installed.
    """
    openvino = import_openvino()
    model = openvino.Core().read_model(str(onnx_file))
    for key, value in metadata.items():
        model.set_rt_info(json.dumps(value), [_METADATA, key])
    openvino.save_model(model, str(folder / f"{name}.xml"), compress_to_fp16=halved)


class OpenVinoRunner:
    """An OpenVINO file on a CPU, computing in float32 (OpenVINO's own choice is bfloat16)."""

    def __init__(
        self, path: str | Path, *, device: str = "", texts: Mapping[str, str] | None = None
    ) -> None:
        """Open the file.

        Args:
            path: the folder, or the .xml in it, or an ONNX file.
            device: `cpu` or empty.
            texts: metadata, key -> text; None takes the file's (OpenVINO does not read an ONNX
                file's).

        Raises:
            CheckpointError: not an OpenVINO detector.
            ConfigError: another device.
            MissingPackageError: OpenVINO is not installed.
        """
        if device not in ("", "cpu"):
            raise ConfigError(f"--device {device}: OpenVINO files run on cpu here")
        openvino = import_openvino()
        self.path = _xml_of(Path(path))
        try:
            model = openvino.Core().read_model(str(self.path))
        except RuntimeError as error:
            raise CheckpointError(f"{self.path}: OpenVINO cannot read it: {error}") from None
        metadata = NetworkMetadata.from_texts(
            self.path, _metadata_texts(model) if texts is None else texts
        )
        self.class_names = metadata.class_names
        self.stride = max(metadata.strides)
        sizes = [_fixed_or_none(size) for size in model.input(0).get_partial_shape()]
        self.batch_size: int | None = sizes[0]
        self.input_hw: tuple[int | None, int | None] = (sizes[2], sizes[3])
        shapes = [
            (port.get_any_name(), [_fixed_or_none(size) for size in port.get_partial_shape()])
            for port in model.outputs
        ]
        self._heads = Heads.choose(self.path, shapes, metadata)
        hints = {"INFERENCE_PRECISION_HINT": "f32"}
        self._network = openvino.Core().compile_model(model, "CPU", hints)

    def run(self, images: FloatArray) -> FloatArray:
        """(B, 3, H, W) RGB in 0-1 -> (B, N, 5 + C) decoded predictions, boxes in input pixels."""
        return in_batches(self._run_once, images, self.batch_size)

    def _run_once(self, images: npt.NDArray[Any]) -> FloatArray:
        answers = self._network([np.ascontiguousarray(images, np.float32)])
        return self._heads.decode([answers[name] for name in self._heads.outputs])


def _xml_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.xml"))
    if len(found) != 1:
        raise CheckpointError(f"{path}: holds {len(found)} .xml files, expected one")
    return found[0]


def _metadata_texts(model: Any) -> dict[str, str]:
    if not model.has_rt_info([_METADATA]):
        return {}
    return {key: str(value) for key, value in model.get_rt_info([_METADATA]).value.items()}


def _fixed_or_none(size: Any) -> int | None:
    return int(size.get_length()) if size.is_static else None
