"""ONNX files run by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.runtimes.heads import Heads, in_batches
from models.runtimes.network_metadata import NetworkMetadata
from models.runtimes.runner import Runtime
from utils.errors import CheckpointError, ConfigError, MissingPackageError
from utils.flag_rules import device_word
from utils.machine import may_lack_vnni
from utils.path_kind import path_kind
from utils.structures import FloatArray

INPUT_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# onnxruntime's keys: sums of 8-bit products in 32 bits; 8-bit files computed in float32.
EXACT_SUMS, IN_FLOAT = "session.x64quantprecision", "session.disable_quant_qdq"


class OnnxRunner:
    """An ONNX file in onnxruntime.

    Understands the metadata of files that export.py and YOLOv5 write.
    """

    def __init__(self, path: str | Path, *, device: str = "", threads: int | None = None) -> None:
        """Open the file.

        Args:
            path: the .onnx file.
            device: `cpu`, a CUDA number, or empty for the best that this onnxruntime has.
            threads: threads of one operator; None lets onnxruntime choose.

        Raises:
            CheckpointError: not an ONNX detector, or one whose output cannot be used here.
            ConfigError: the device is not available.
            MissingPackageError: onnxruntime is not installed.
        """
        self.path = Path(path)
        self._session = _opened(self.path, _providers(device), threads)
        texts = self._session.get_modelmeta().custom_metadata_map
        metadata = NetworkMetadata.from_texts(self.path, texts)
        self.class_names = metadata.class_names
        self.stride = metadata.stride
        self.known_hw = metadata.known_hw
        self.suppresses = metadata.suppresses
        self._input = _single_input(self.path, self._session)
        # onnxruntime gives the name, not a number, of a size that may change.
        sizes = [size if isinstance(size, int) else None for size in self._input.shape]
        batch, _, height, width = sizes
        self.batch_size: int | None = batch
        self.input_hw: tuple[int | None, int | None] = (height, width)
        outputs = [(node.name, node.shape) for node in self._session.get_outputs()]
        self._heads = Heads.choose(self.path, outputs, metadata)

    @property
    def computes_in_half(self) -> bool:
        """Whether the file takes float16 images."""
        return bool(self._input.type == "tensor(float16)")

    def run(self, images: FloatArray) -> FloatArray:
        """(B, 3, H, W) RGB in 0-1 -> (B, N, 5 + C) decoded predictions, boxes in input pixels."""
        images = images.astype(INPUT_TYPES[self._input.type], copy=False)
        return in_batches(self._run_once, images, self.batch_size)

    def _run_once(self, images: npt.NDArray[Any]) -> FloatArray:
        names = list(self._heads.outputs)
        return self._heads.decode(self._session.run(names, {self._input.name: images}))


def open_half(path: str | Path, *, device: str = "") -> OnnxRunner:
    """A file that computes in float16.

    Raises:
        ConfigError: it computes in float32; and as OnnxRunner.
    """
    runner = OnnxRunner(path, device=device)
    if not runner.computes_in_half:
        raise ConfigError(f"--half: {path} computes in float32; leave out --half")
    return runner


def open_session(
    model: str | bytes,
    providers: Sequence[Any] = (CPU,),
    threads: int | None = None,
    config: Mapping[str, str] | None = None,
) -> Any:
    """An InferenceSession of onnxruntime in which 8-bit files compute the same everywhere.

    On x86 processors without VNNI onnxruntime by default adds each two products of 8-bit numbers
    in 16 bits, where they saturate: networks can lose all their AP.

    Args:
        model: the path of an ONNX file, or its content.
        providers: of onnxruntime, the preferred one first.
        threads: of one operator; None lets onnxruntime choose.
        config: other settings by onnxruntime's keys.

    Raises:
        MissingPackageError: onnxruntime is not installed.
        Exception: onnxruntime cannot open it; its errors share no base class.
    """
    ort = _onnxruntime()
    # Where convolutions share their weights, onnxruntime cannot make the sums exact.
    attempts = [{EXACT_SUMS: "1"}, {IN_FLOAT: "1"}] if may_lack_vnni() else [{}]
    for precise in attempts:
        options = ort.SessionOptions()
        options.log_severity_level = 4  # the error says it
        if threads is not None:
            options.intra_op_num_threads = threads
        for key, value in {**(config or {}), **precise}.items():
            options.add_session_config_entry(key, value)
        try:
            return ort.InferenceSession(model, options, providers=list(providers))
        except Exception:
            if precise is attempts[-1]:
                raise
    raise AssertionError("the last attempt returns or raises")


def _opened(path: Path, providers: list[Any], threads: int | None) -> Any:
    if path_kind(path) != "file":
        raise CheckpointError(f"{path}: no such file")
    # Its threads would spin between two images, on cores that decode and encode.
    config = {"session.intra_op.allow_spinning": "0"}
    try:
        return open_session(str(path), providers, threads, config)
    except MissingPackageError:
        raise
    except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no base class
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: onnxruntime cannot open it as ONNX: {reason}") from None


def _onnxruntime() -> Any:
    try:
        import onnxruntime  # here: only those who run ONNX files need it
    except ImportError:
        raise MissingPackageError(
            "running an .onnx file needs onnxruntime: pip install onnxruntime"
        ) from None
    return onnxruntime


def _providers(device: str) -> list[Any]:
    """What onnxruntime calls a `--device`, the preferred choice first."""
    device = device_word(device)
    if device == "cpu":
        return [CPU]
    has_cuda = CUDA in _onnxruntime().get_available_providers()
    if not device:
        return [CUDA, CPU] if has_cuda else [CPU]
    if not device.isdecimal():
        raise ConfigError(f"--device {device}: an .onnx file runs on cpu or on one CUDA number")
    if not has_cuda:
        raise ConfigError(
            f"--device {device}: this onnxruntime has no CUDA; "
            "install onnxruntime-gpu or use --device cpu"
        )
    return [(CUDA, {"device_id": int(device)}), CPU]


def _single_input(path: Path, session: Any) -> Any:
    """The image input, checked."""
    inputs = session.get_inputs()
    first = inputs[0]
    if len(inputs) == 1 and len(first.shape) == 4 and first.type in INPUT_TYPES:
        channels = first.shape[1]
        if channels == 3 or not isinstance(channels, int):
            return first
    found = ", ".join(f"{node.name} {node.type} {node.shape}" for node in inputs)
    raise CheckpointError(
        f"{path}: its inputs are {found}; "
        "expected one input (batch, 3, height, width) of float32 or float16"
    )


ONNXRUNTIME = Runtime("onnxruntime", OnnxRunner, open_half=open_half)
