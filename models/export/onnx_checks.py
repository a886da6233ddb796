"""What must be true of an ONNX file besides its figures: read back from the file itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.formats.presets import Preset
from utils.errors import CheckFailedError

NEWEST_IR = {range(18): 8, range(18, 99): 10}  # by opset: what older runtimes still read
INPUT = "images"
MAX_DIMENSIONS = 4  # of any tensor in a file for accelerators
# Pairs that say what is rounded, and what the quantizer makes of HardSwish.
QDQ = frozenset(("QuantizeLinear", "DequantizeLinear", "HardSigmoid"))
DOMAINS = frozenset(("", "ai.onnx"))


@dataclass(frozen=True, slots=True)
class Expected:
    """What a file was meant to be.

    Attributes:
        opset: the operator set.
        outputs: names, in order.
        convolutions: how many the network has in deploy form.
        metadata: key -> text.
    """

    opset: int
    outputs: tuple[str, ...]
    convolutions: int
    metadata: dict[str, str]


def check_structure(path: Path, preset: Preset, expected: Expected) -> None:
    """Read a file again and compare it with what it was meant to be.

    Raises:
        CheckFailedError: it is something else; the message says what was found.
    """
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    for problem in (
        _about_versions(model, expected),
        _about_storage(model),
        _about_operators(model, preset, expected),
        _about_names(model, expected),
        _about_dimensions(inferred) if preset.operators is not None else None,
    ):
        if problem is not None:
            raise CheckFailedError(f"{path.name}: {problem}; no file is left behind")


def _about_versions(model: Any, expected: Expected) -> str | None:
    opsets = {item.domain: item.version for item in model.opset_import}
    if unknown := set(opsets) - DOMAINS:
        return f"needs operators of {', '.join(sorted(unknown))}"
    opset = opsets.get("", opsets.get("ai.onnx"))
    if opset != expected.opset:
        return f"opset {opset} came out, {expected.opset} was asked for"
    newest = next(ir for opsets_, ir in NEWEST_IR.items() if opset in opsets_)
    return f"IR version {model.ir_version}, at most {newest}" if model.ir_version > newest else None


def _about_storage(model: Any) -> str | None:
    outside = [tensor.name for tensor in model.graph.initializer if tensor.external_data]
    return f"{len(outside)} tensors are in another file" if outside else None


def _about_operators(model: Any, preset: Preset, expected: Expected) -> str | None:
    counts = Counter(node.op_type for node in model.graph.node)
    unwanted = set(counts) & preset.forbidden
    if preset.operators is not None:
        unwanted |= set(counts) - preset.operators - (QDQ if preset.form else frozenset())
    if unwanted:
        return f"holds operators that this preset must not have: {', '.join(sorted(unwanted))}"
    if counts["Conv"] != expected.convolutions:
        return f"{counts['Conv']} convolutions, the network has {expected.convolutions}"
    return None


def _about_names(model: Any, expected: Expected) -> str | None:
    inputs = [each.name for each in model.graph.input]
    if inputs != [INPUT]:
        return f"inputs {', '.join(inputs)}, expected {INPUT}"
    outputs = tuple(output.name for output in model.graph.output)
    if outputs != expected.outputs:
        return f"outputs {', '.join(outputs)}, expected {', '.join(expected.outputs)}"
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return None if metadata == expected.metadata else "its metadata is not what was written"


def _about_dimensions(model: Any) -> str | None:
    for value in (*model.graph.value_info, *model.graph.output):
        sizes = value.type.tensor_type.shape.dim
        if len(sizes) > MAX_DIMENSIONS:
            return f"{value.name} has {len(sizes)} dimensions, at most {MAX_DIMENSIONS}"
        if any(not size.HasField("dim_value") for size in sizes):
            return f"the size of {value.name} is not fixed"
    return None
