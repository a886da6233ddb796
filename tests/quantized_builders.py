"""Tiny float32 files that end in raw maps, what to calibrate them on, and what is in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from packaging.version import Version

from models.conversion.deploy import to_deploy
from models.export.onnx_file import OnnxOptions, write_onnx
from models.network.detector import Detector
from models.quantization.calibration_images import Images
from models.quantization.quantized_onnx import WIDENS_SCALES
from utils.structures import FloatArray

OPSET = 13


def write_raw_maps(path: Path, detector: Detector, size: int) -> Path:
    """The deploy form of a network as a file for images of this size."""
    outputs = ("p3", "p4", "p5")[: len(detector.strides)]
    write_onnx(
        path, to_deploy(detector), OnnxOptions((size, size), opset=OPSET, outputs=outputs), {}
    )
    return path


def noise(count: int, size: int, seed: int = 0) -> Images:
    """Images of noise, the same ones at each call."""
    rng = np.random.default_rng(seed)
    images = [rng.random((1, 3, size, size), np.float32) for _ in range(count)]
    return lambda: iter(images)


def need_wide_scales() -> None:
    """Skip where onnxruntime writes no 16-bit activations: their biases need scales it widens."""
    if Version(onnxruntime.__version__) < Version(WIDENS_SCALES):
        pytest.skip(f"16-bit activations need onnxruntime {WIDENS_SCALES}")


def run_file(path: Path, images: Images, tensors: Sequence[str] = ()) -> list[list[FloatArray]]:
    """For each image, these tensors of a file (without names: its outputs)."""
    model = onnx.load(str(path))
    outputs = {output.name for output in model.graph.output}
    for name in set(tensors) - outputs:
        model.graph.output.append(onnx.ValueInfoProto(name=name))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return [session.run(list(tensors) or None, {"images": image}) for image in images()]


def conv_outputs(path: Path) -> dict[str, str]:
    """Name of each convolution -> the tensor it makes."""
    return {n.name: n.output[0] for n in onnx.load(str(path)).graph.node if n.op_type == "Conv"}


def constants(path: Path) -> dict[str, np.ndarray]:
    """The initializers of a file."""
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(str(path)).graph.initializer}
