"""OpenVINO: a folder with one .xml and .bin, converted from ONNX; 8 bits by NNCF.

Metadata are texts in the .xml, and in yaml files beside it for other readers: YOLOv5's reads one
named as the .xml, ultralytics' reads metadata.yaml. Run by OpenVINO on the CPU, which is also a
second runtime of float32 ONNX files.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from models.formats import openvino_worker
from models.formats.format import (
    NPU_OPERATORS,
    Format,
    NetworkFile,
    Package,
    Preset,
    Quantization,
    QuantizedNetwork,
    SecondRuntime,
)
from models.quantization.calibration_images import write_array
from models.runtimes.file_metadata import FileMetadata
from models.runtimes.heads import Heads, in_batches
from models.runtimes.network_metadata import NetworkMetadata
from models.runtimes.runner import Runner, Runtime
from utils.errors import CheckFailedError, CheckpointError, ConfigError, MissingPackageError
from utils.strict_yaml import read_yaml, write_yaml
from utils.structures import FloatArray

PROJECT = Path(__file__).resolve().parents[2]
NNCF_PRESETS = ("performance", "mixed")  # symmetric activations; asymmetric ones
_METADATA = "model_info"  # where ultralytics keeps what OpenVINO's own tools read
_SIDECAR = "metadata.yaml"  # ultralytics'; YOLOv5's has the name of the .xml
_TELEMETRY = "openvino_telemetry"


@contextmanager
def without_telemetry() -> Iterator[None]:
    """A region in which the package's telemetry cannot be imported; afterwards it can again.

    OpenVINO reports its import to Intel through a package that it does without where it is missing.
    """
    missing = object()
    before: object = sys.modules.get(_TELEMETRY, missing)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # how an import is barred
    try:
        yield
    finally:
        if before is missing:
            sys.modules.pop(_TELEMETRY, None)
        else:
            sys.modules[_TELEMETRY] = before  # type: ignore[assignment]


class SignalStack(ctypes.Structure):
    """Linux's stack_t: where a thread handles signals; see sigaltstack(2)."""

    _fields_: ClassVar = [
        ("ss_sp", ctypes.c_void_p), ("ss_flags", ctypes.c_int), ("ss_size", ctypes.c_size_t),
    ]  # fmt: skip


@contextmanager
def same_signal_stack() -> Iterator[None]:
    """A region after which this thread's alternate signal stack is what it was before.

    Every OpenVINO Core sets one of its own, and at its end sets the one before. Where that was
    another Core's, which has ended, its memory is gone, and the next signal kills the process: the
    end of a child process is enough.
    """
    if sys.platform != "linux":
        yield
        return
    libc, before = ctypes.CDLL(None), SignalStack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)


def import_openvino() -> Any:
    """The package, imported without its telemetry.

    Raises:
        MissingPackageError: OpenVINO is not installed.
    """
    with without_telemetry():
        try:
            import openvino  # an extra
        except ImportError:
            raise MissingPackageError(
                "OpenVINO files need openvino: pip install -r requirements-deploy.txt"
            ) from None
    return openvino


def write_openvino(source: NetworkFile, folder: Path) -> None:
    """Convert an ONNX file to the .xml and .bin of a folder.

    Raises:
        MissingPackageError: OpenVINO is not installed.
    """
    target = folder / f"{source.stem}.xml"
    _convert(source.path, target, source.metadata, halved=source.preset.half)
    _write_sidecars(target, source.metadata)


def quantize_openvino(source: NetworkFile, folder: Path, method: str) -> QuantizedNetwork:
    """Calibrate on the images with NNCF, in a process of its own, and write the 8-bit file.

    Args:
        source: the float32 ONNX file, which ends in raw maps, and the images.
        folder: gets the .xml and the .bin.
        method: of NNCF_PRESETS.

    Raises:
        MissingPackageError: OpenVINO is not installed.
        CheckFailedError: NNCF cannot do it.
        ValueError: there are no images.
    """
    if source.images is None:
        raise ValueError(f"{source.path}: no images to calibrate on")
    target = folder / f"{source.stem}.xml"
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        inputs = Path(temporary).resolve()  # the worker runs in that folder
        _convert(source.path, inputs / "float.xml", source.metadata, halved=False)
        write_array(inputs / "images.npy", source.images)
        # As a module: a script would import `openvino` from the folder it lies in, this file.
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        command = [sys.executable, "-m", openvino_worker.__name__, str(inputs / "float.xml"),
                   str(inputs / "images.npy"), method, str(target.resolve())]  # fmt: skip
        done = subprocess.run(
            command, cwd=inputs, env=environment, capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        raise CheckFailedError(f"NNCF: {' '.join(done.stderr.split())[-300:]}")
    _write_sidecars(target, source.metadata)
    return QuantizedNetwork(OpenVinoRunner(folder))


def _convert(onnx_file: Path, target: Path, metadata: FileMetadata, *, halved: bool) -> None:
    """Write the .xml, weights in float16 where `halved`."""
    openvino = import_openvino()
    model = openvino.Core().read_model(str(onnx_file))
    for key, text in metadata.as_texts().items():
        model.set_rt_info(text, [_METADATA, key])
    openvino.save_model(model, str(target), compress_to_fp16=halved)


def _write_sidecars(xml: Path, metadata: FileMetadata) -> None:
    """Write the metadata under the names that YOLOv5 and ultralytics look for."""
    for path in {xml.with_suffix(".yaml"), xml.with_name(_SIDECAR)}:
        write_yaml(path, metadata.as_values())


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
            self.path, _metadata_texts(self.path, model) if texts is None else texts
        )
        self.class_names = metadata.class_names
        self.stride = metadata.stride
        self.known_hw = metadata.known_hw
        self.suppresses = metadata.suppresses
        sizes = [_fixed_or_none(size) for size in model.input(0).get_partial_shape()]
        self.batch_size: int | None = sizes[0]
        self.input_hw: tuple[int | None, int | None] = (sizes[2], sizes[3])
        shapes = [
            (port.get_any_name(), [_fixed_or_none(size) for size in port.get_partial_shape()])
            for port in model.outputs
        ]
        self._heads = Heads.choose(self.path, shapes, metadata)
        hints = {"INFERENCE_PRECISION_HINT": "f32"}
        with same_signal_stack():
            self._network = openvino.Core().compile_model(model, "CPU", hints)

    def run(self, images: FloatArray) -> FloatArray:
        """(B, 3, H, W) RGB in 0-1 -> (B, N, 5 + C) decoded predictions, boxes in input pixels."""
        return in_batches(self._run_once, images, self.batch_size)

    def _run_once(self, images: npt.NDArray[Any]) -> FloatArray:
        answers = self._network([np.ascontiguousarray(images, np.float32)])
        return self._heads.decode([answers[name] for name in self._heads.outputs])


@contextmanager
def _opened(file: NetworkFile) -> Iterator[Runner]:
    yield OpenVinoRunner(file.path, texts=file.metadata.as_texts())


def _xml_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.xml"))
    if len(found) != 1:
        raise CheckpointError(f"{path}: holds {len(found)} .xml files, expected one")
    return found[0]


def _metadata_texts(xml: Path, model: Any) -> dict[str, str]:
    """Key -> text: what the .xml says, and what yaml files beside it say besides.

    Raises:
        CheckpointError: such a file holds no yaml mapping.
    """
    texts: dict[str, str] = {}
    for path in (xml.with_name(_SIDECAR), xml.with_suffix(".yaml")):
        if path.is_file():
            try:
                content = read_yaml(path)
            except ConfigError as error:
                raise CheckpointError(str(error)) from None
            texts |= {str(key): str(value) for key, value in content.items()}
    if model.has_rt_info([_METADATA]):
        stored = model.get_rt_info([_METADATA]).value
        texts |= {key: str(value) for key, value in stored.items()}
    return texts


def _fixed_or_none(size: Any) -> int | None:
    return int(size.get_length()) if size.is_static else None


PACKAGE = Package("openvino")
OPENVINO = Runtime("OpenVINO", OpenVinoRunner)
FORMAT = Format(
    name="OpenVINO",
    runtime=OPENVINO,
    presets=(
        Preset(
            name="openvino", description="OpenVINO on Intel",
            outputs="boxes; float16: weights alone", head="decoded", suffix="_openvino_model",
            runtime=OPENVINO, half_weights=True, may_be_half=True, is_folder=True,
            convert=write_openvino, int8_preset="openvino-int8", packages=(PACKAGE,),
        ),
        Preset(
            name="openvino-int8", description="OpenVINO on Intel, 8 bits",
            outputs="raw maps, 8 bits by NNCF", head="raw", suffix="_int8_openvino_model",
            runtime=OPENVINO, opset=13, operators=NPU_OPERATORS, dynamic=False, is_folder=True,
            quantization=Quantization(quantize_openvino, methods=NNCF_PRESETS),
            packages=(PACKAGE, Package("nncf")),
        ),
    ),
    second_runtime=SecondRuntime("OpenVINO", _opened, package=PACKAGE),
)  # fmt: skip
