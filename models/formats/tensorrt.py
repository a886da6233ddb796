"""TensorRT: ONNX files for trtexec, which builds the engine; it was not run on them.

Up to TensorRT 10 the tool chooses float16 itself; TensorRT 11 takes the types of the file: float16,
or signed symmetric 8 bits with biases in float32. The files are run by onnxruntime.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from models.formats.format import (
    FLOAT16_TOLERANCE,
    NPU_OPERATORS,
    Format,
    Preset,
    Quantization,
)
from models.formats.qdq import QDQ_OPSETS, write_qdq
from models.quantization.qdq_scheme import S8S8
from models.runtimes.input_sizes import InputSizes
from models.runtimes.network_metadata import INPUT
from models.runtimes.onnx_runner import ONNXRUNTIME

_STEP, _MAX_BATCH = 32, 8


def command_float16(file: Path, sizes: InputSizes) -> str:
    """The command that lets the tool choose float16."""
    return _command(file, sizes, "--fp16 ")


def command_typed(file: Path, sizes: InputSizes) -> str:
    """The command that keeps the file's types."""
    return _command(file, sizes, "")


def _command(file: Path, sizes: InputSizes, precision: str) -> str:
    onnx, engine = shlex.quote(str(file)), f"{shlex.quote(file.stem)}.engine"
    return f"trtexec --onnx={onnx} {precision}--saveEngine={engine}{_shapes(sizes)}"


def _shapes(sizes: InputSizes) -> str:
    """The range of sizes that may change: from half the input to it, 1 to 8 images."""
    if not sizes.dynamic:
        return ""
    free_hw = "hw" in sizes.dynamic
    shapes = []
    for count, share in ((1, 0.5), (1, 1.0), (_MAX_BATCH, 1.0)):
        height, width = (
            max(_STEP, int(side * share) // _STEP * _STEP) if free_hw else side
            for side in sizes.input_hw
        )
        batch_size = count if "batch" in sizes.dynamic else sizes.batch_size
        shapes.append(f"{INPUT}:{batch_size}x3x{height}x{width}")
    smallest, best, largest = shapes
    return f" --minShapes={smallest} --optShapes={best} --maxShapes={largest}"


FORMAT = Format(
    name="TensorRT",
    presets=(
        Preset(
            name="trt10", description="TensorRT up to 10, Jetson", outputs="boxes", head="decoded",
            suffix="-trt10.onnx", runtime=ONNXRUNTIME, may_be_half=True, not_run="TensorRT",
            command=command_float16,
        ),
        Preset(
            name="trt11-fp16", description="TensorRT 11, which takes the file's types",
            outputs="boxes decoded in float32, the rest float16", head="decoded",
            suffix="-trt11-fp16.onnx", runtime=ONNXRUNTIME, half=True,
            tolerance=FLOAT16_TOLERANCE, not_run="TensorRT", command=command_typed,
        ),
        Preset(
            name="trt11-int8", description="TensorRT 11: 8 bits in the file",
            outputs="raw maps; signed, symmetric, biases in float32", head="raw",
            suffix="-trt11-int8.onnx", runtime=ONNXRUNTIME, opsets=QDQ_OPSETS,
            operators=NPU_OPERATORS, dynamic=False,
            quantization=Quantization(write_qdq, scheme=S8S8), not_run="TensorRT",
            command=command_typed,
        ),
    ),
    refused_flags=(
        ("--workspace", "give it to trtexec, which builds the engine: --memPoolSize=workspace:N"),
        ("--cache", "give it to trtexec, which builds the engine: --timingCacheFile=FILE"),
        ("--verbose", "give it to trtexec, which builds the engine"),
    ),
    refused_presets=(
        ("engine", "an engine is built on the GPU that runs it: --include trt10 (or trt11) writes "
         "its ONNX file and prints the command that builds it"),
    ),
)  # fmt: skip
