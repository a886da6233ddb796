"""Writing a network as a file of some preset, and opening it again."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models.export.export_networks import network_of, output_names
from models.export.onnx_checks import Expected, check_structure
from models.export.onnx_file import OnnxOptions, operator_counts, output_nodes, write_onnx
from models.export.second_runtimes import second_runtimes
from models.export.sizes import Sizes
from models.formats.ncnn import NcnnRunner, write_ncnn
from models.formats.openvino import OpenVinoRunner, write_openvino
from models.formats.presets import Preset
from models.formats.torchscript import TorchScriptRunner, write_torchscript
from models.formats.vendor_files import VendorRequest, write_vendor_files
from models.network.detector import Detector
from models.quantization.calibration_images import Images
from models.runtimes.runner import OnnxRunner, Runner
from utils.checkpoint import Checkpoint
from utils.errors import CheckFailedError
from utils.postprocess import PostprocessConfig
from utils.structures import FloatArray

TIMED_RUNS = 20


@dataclass(frozen=True, slots=True)
class FileRequest:
    """What file to write of which network.

    Attributes:
        preset: the kind of file.
        detector: in deploy form and eval mode.
        sizes: of input and batch.
        opset: ONNX operator set.
        suppression: rules of files that suppress by themselves.
        metadata: key -> value.
        images: to calibrate on, for vendors' tools that do it themselves; None without any.
    """

    preset: Preset
    detector: Detector
    sizes: Sizes
    opset: int
    suppression: PostprocessConfig
    metadata: dict[str, Any]
    images: Images | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was just written.

    Attributes:
        runner: runs it.
        opset: its operator set; None where it has none.
        operators: how many nodes of each; empty where they cannot be listed.
        tested_in: the runtime that `runner` is.
        others: more runtimes that opened it, by their names.
    """

    runner: Runner
    opset: int | None
    operators: dict[str, int]
    tested_in: str
    others: Mapping[str, Runner] = field(default_factory=dict)


def write_file(place: Path, name: str, request: FileRequest) -> Written:
    """Write a network in deploy form and open the file again.

    Args:
        place: the file, or the folder for presets that write several.
        name: stem of files in a folder.
        request: what to write.

    Raises:
        CheckFailedError: the file is not what was asked for.
    """
    network = network_of(request.preset, request.detector, request.suppression)
    return _WRITERS[request.preset.kind](place, name, network, request)


def _write_torchscript(place: Path, _: str, network: nn.Module, request: FileRequest) -> Written:
    write_torchscript(place, network, torch.zeros(_input_shape(request)), request.metadata)
    return Written(TorchScriptRunner(place, device="cpu"), None, {}, "libtorch")


def _write_ncnn(place: Path, _: str, network: nn.Module, request: FileRequest) -> Written:
    shape = _input_shape(request)
    with tempfile.TemporaryDirectory() as folder:
        traced = Path(folder) / "model.pt"
        write_torchscript(traced, network, torch.zeros(shape), {})
        write_ncnn(place, traced, shape, request.metadata)
    return Written(NcnnRunner(place), None, {}, "ncnn")


def _write_openvino(place: Path, name: str, network: nn.Module, request: FileRequest) -> Written:
    onnx_file = place / f"{name}.onnx"
    _write_checked(onnx_file, network, request)
    write_openvino(place, onnx_file, name, request.metadata, halved=request.preset.half)
    onnx_file.unlink()
    return Written(OpenVinoRunner(place), None, {}, "OpenVINO")


def _write_onnx(place: Path, name: str, network: nn.Module, request: FileRequest) -> Written:
    preset = request.preset
    file = place / f"{name}.onnx" if preset.vendor else place
    _write_checked(file, network, request)
    if preset.vendor:
        nodes = output_nodes(file)
        files = VendorRequest(file, nodes, request.metadata, request.images)
        write_vendor_files(preset.vendor, files)
    others: Mapping[str, Runner] = {}
    if not preset.quantized:
        others = second_runtimes(file, preset, request.sizes, request.opset, request.metadata)
    runner = OnnxRunner(file, device="cpu")
    return Written(runner, request.opset, operator_counts(file), "onnxruntime", others)


_Writer = Callable[[Path, str, nn.Module, FileRequest], Written]
_WRITERS: Mapping[str, _Writer] = {
    "onnx": _write_onnx,
    "torchscript": _write_torchscript,
    "ncnn": _write_ncnn,
    "openvino": _write_openvino,
}


def _input_shape(request: FileRequest) -> tuple[int, ...]:
    return (request.sizes.batch_size, 3, *request.sizes.input_hw)


def _write_checked(path: Path, network: nn.Module, request: FileRequest) -> None:
    """An ONNX file whose structure is what was asked for, and the same bytes twice."""
    sizes = request.sizes
    options = OnnxOptions(
        input_hw=sizes.input_hw,
        batch_size=sizes.batch_size,
        dynamic=sizes.dynamic,
        opset=request.opset,
        outputs=output_names(request.preset.head, request.detector),
        fixed_outputs=request.preset.head == "e2e",
        half=request.preset.half_input,
    )
    write_onnx(path, network, options, request.metadata)
    check_structure(path, request.preset, expected_of(request))
    content = path.read_bytes()
    write_onnx(path, network, options, request.metadata)
    if path.read_bytes() != content:
        raise CheckFailedError(f"{path.name}: a second export differs; no file is left behind")
    if str(Path.cwd()).encode() in content:
        raise CheckFailedError(f"{path.name}: names a folder of this machine; no file is left")


def expected_of(request: FileRequest) -> Expected:
    """What an ONNX file must be that was written on request."""
    return Expected(
        opset=request.opset,
        outputs=output_names(request.preset.head, request.detector),
        convolutions=sum(isinstance(each, nn.Conv2d) for each in request.detector.modules()),
        metadata={key: json.dumps(value) for key, value in request.metadata.items()},
    )


def file_metadata(
    checkpoint: Checkpoint, strides: tuple[int, ...], preset: Preset, sizes: Sizes, opset: int
) -> dict[str, Any]:
    """What a program needs to run the file, as JSON values."""
    return {
        "names": list(checkpoint.class_names),
        "nc": len(checkpoint.class_names),
        "stride": list(strides),
        "anchors": checkpoint.spec["anchors"],
        "imgsz": list(sizes.input_hw),
        "batch": sizes.batch_size,
        "dynamic": list(sizes.dynamic),
        "head": preset.head,
        "maps": "NHWC" if preset.rows_last else "NCHW",
        "input": {
            "layout": "NCHW",
            "color": "RGB",
            "range": [0, 1],
            "pad": 114,
            "letterbox": "centred",
        },
        "activation": checkpoint.spec["activation"],
        "precision": _precision(preset),
        "opset": opset,
        "torch": torch.__version__,
        "license": "Apache-2.0",
    }


def _precision(preset: Preset) -> str:
    if preset.quantized:
        scales = "" if preset.form is None or preset.form.per_channel else " per tensor"
        return "int8" if preset.form is None else f"{preset.form.activations}s8{scales}"
    return "float16" if preset.half else "float32"


def median_ms(runner: Runner, sizes: Sizes) -> float:
    """Median milliseconds of a run, after a warm-up."""
    images: FloatArray = np.zeros((sizes.batch_size, 3, *sizes.input_hw), np.float32)
    runner.run(images)
    seconds = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        runner.run(images)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1000
