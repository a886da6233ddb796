"""ONNX: the interchange file itself, run by onnxruntime.

Head, opsets and operators are the presets'; metadata are texts in the file. A float file is also
opened in the second runtimes of models/formats/table.py.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from models.formats.format import NPU_OPERATORS, Format, Preset
from models.runtimes.onnx_runner import ONNXRUNTIME
from utils.errors import MissingPackageError

NPU_OPSETS = range(11, 14)


def operator_counts(path: Path) -> dict[str, int]:
    """How many nodes of each operator a file has, most frequent first."""
    graph = import_onnx().load(str(path), load_external_data=False).graph
    return dict(Counter(node.op_type for node in graph.node).most_common())


def output_names(path: Path) -> list[str]:
    """Names of the outputs, in order."""
    graph = import_onnx().load(str(path), load_external_data=False).graph
    return [output.name for output in graph.output]


def output_nodes(path: Path) -> list[str]:
    """Names of the nodes that make the outputs, in the outputs' order."""
    graph = import_onnx().load(str(path), load_external_data=False).graph
    makers = {output: node.name for node in graph.node for output in node.output}
    return [makers[output.name] for output in graph.output]


def import_onnx() -> Any:
    """The package that reads and writes ONNX files.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import onnx  # here: running a file does not need it
    except ImportError:
        raise MissingPackageError("ONNX files need onnx: pip install onnx") from None
    return onnx


RECIPES = "see docs/deploy.md"
FORMAT = Format(
    name="ONNX",
    runtime=ONNXRUNTIME,
    presets=(
        Preset(
            name="onnx", description="programs that read ONNX", outputs="boxes",
            head="decoded", suffix=".onnx", runtime=ONNXRUNTIME, may_be_half=True,
            int8_preset="qdq-u8",
        ),
        Preset(
            name="e2e", description="programs without suppression of their own",
            outputs="suppressed `detections` (B, K, 6), `counts` (B)",
            head="e2e", suffix="-e2e.onnx", runtime=ONNXRUNTIME,
        ),
        Preset(
            name="npu", description="compilers of accelerators",
            outputs="raw maps `p3`, `p4`, `p5`; eleven kinds of operators, four dimensions",
            head="raw", suffix="-npu.onnx", runtime=ONNXRUNTIME, opset=12, opsets=NPU_OPSETS,
            operators=NPU_OPERATORS, dynamic=False,
        ),
    ),
    refused_presets=(
        ("tflite", f"LiteRT files are made from the ONNX file of --include onnx or npu: {RECIPES}"),
        ("saved_model", f"SavedModels are made from the ONNX file of --include onnx: {RECIPES}"),
        ("pb", f"frozen graphs are made from a SavedModel, and that from an ONNX file: {RECIPES}"),
        ("edgetpu", "the vendor's edgetpu_compiler reads an 8-bit .tflite, which is made from the "
         f"ONNX file of --include npu: {RECIPES}"),
        ("tfjs", "browsers run the ONNX file of --include onnx with onnxruntime-web"),
        ("paddle", "Paddle's own X2Paddle reads the ONNX file of --include onnx (not tried here)"),
    ),
)  # fmt: skip
