"""ONNX files: written from a network, tidied, and checked by reading them back."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models.formats.format import Preset
from models.formats.onnx import import_onnx
from models.runtimes.network_metadata import INPUT
from utils.errors import CheckFailedError, MissingPackageError, first_line

DEFAULT_OPSET = 17
NEWEST_OPSET = 20  # that is written here
OUTPUT = "output0"
NEWEST_IR = {range(18): 8, range(18, 99): 10}  # by opset: what older runtimes still read
MAX_DIMENSIONS = 4  # of any tensor in a file for accelerators
# Pairs that say what is rounded, and what the quantizer makes of HardSwish.
QDQ = frozenset(("QuantizeLinear", "DequantizeLinear", "HardSigmoid"))
DOMAINS = frozenset(("", "ai.onnx"))


@dataclass(frozen=True, slots=True)
class OnnxOptions:
    """How a network is written.

    Attributes:
        input_hw: height and width of the input.
        batch_size: images per run.
        dynamic: which of "batch" and "hw" may change from run to run.
        opset: ONNX operator set version.
        simplify: fold constants and drop what has no effect.
        outputs: their names, in the network's order.
        fixed_outputs: the outputs' sizes do not follow height and width.
        boxes_axis: which size of an output (B, N, values) or (B, values, N) is N.
        half: the input is float16.
    """

    input_hw: tuple[int, int]
    batch_size: int = 1
    dynamic: tuple[str, ...] = ()
    opset: int = DEFAULT_OPSET
    simplify: bool = True
    outputs: tuple[str, ...] = (OUTPUT,)
    fixed_outputs: bool = False
    boxes_axis: int = 1
    half: bool = False


@dataclass(frozen=True, slots=True)
class Expected:
    """What a file was meant to be.

    Attributes:
        opset: the operator set.
        outputs: names, in order.
        convolutions: how many the network has in deploy form.
        texts: the metadata, key -> JSON text.
    """

    opset: int
    outputs: tuple[str, ...]
    convolutions: int
    texts: Mapping[str, str]


def write_checked(
    path: Path, network: nn.Module, options: OnnxOptions, preset: Preset, expected: Expected
) -> None:
    """Write a file whose structure is what was asked for, and the same bytes twice.

    Raises:
        CheckFailedError: it is not.
        MissingPackageError: onnx or onnxslim is not installed.
    """
    write_onnx(path, network, options, expected.texts)
    check_structure(path, preset, expected)
    content = path.read_bytes()
    write_onnx(path, network, options, expected.texts)
    if path.read_bytes() != content:
        raise CheckFailedError(f"{path.name}: a second export differs; no file is left behind")
    if str(Path.cwd()).encode() in content:
        raise CheckFailedError(f"{path.name}: names a folder of this machine; no file is left")


def write_onnx(
    path: Path, network: nn.Module, options: OnnxOptions, texts: Mapping[str, str]
) -> None:
    """Write a network with one input.

    Args:
        path: file to write.
        network: in eval mode, on the CPU, (B, 3, H, W) -> as many tensors as `options.outputs`.
        options: shapes and opset.
        texts: the metadata, key -> JSON text.

    Raises:
        MissingPackageError: onnx or onnxslim is not installed.
    """
    onnx = import_onnx()
    model = onnx.load_from_string(_traced(network, options))
    _keep_zeros_in_pools(model.graph)
    if options.simplify:
        model = _simplified(model)
    for node in model.graph.node:  # source lines and scopes of this machine
        node.doc_string = ""
        del node.metadata_props[:]
    model.producer_name, model.producer_version, model.doc_string = "reparam-yolov5", "", ""
    del model.metadata_props[:]
    for key, text in texts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, text
    path.write_bytes(model.SerializeToString(deterministic=True))


def _traced(network: nn.Module, options: OnnxOptions) -> bytes:
    """The file as PyTorch's tracing exporter writes it.

    The newer exporter (dynamo) ignores opsets below 18 without an error and writes source paths of
    this machine into the file.

    Raises:
        CheckFailedError: the opset lacks what the network computes.
    """
    axes: dict[int, str] = {}
    if "batch" in options.dynamic:
        axes[0] = "batch"
    if "hw" in options.dynamic:
        axes.update({2: "height", 3: "width"})
    every_axis = {INPUT: axes}
    buffer = io.BytesIO()
    dtype = torch.float16 if options.half else torch.float32
    example = torch.zeros(options.batch_size, 3, *options.input_hw, dtype=dtype)
    with torch.no_grad():
        answers = network(example)
    given = (answers,) if isinstance(answers, torch.Tensor) else answers
    for name, answer in zip(options.outputs, given, strict=True):
        every_axis[name] = _output_axes(answer.ndim, options)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter announces its retirement at each call
        try:
            torch.onnx.export(
                network,
                (example,),
                buffer,  # type: ignore[arg-type]
                dynamo=False,
                opset_version=options.opset,
                input_names=[INPUT],
                output_names=list(options.outputs),
                dynamic_axes=every_axis if axes else None,
            )
        except torch.onnx.OnnxExporterError as error:
            raise CheckFailedError(
                f"opset {options.opset} does not hold this network ({first_line(error)}); "
                "take another --opset or --preset; no file is left behind"
            ) from None
    return buffer.getvalue()


def _output_axes(num_sizes: int, options: OnnxOptions) -> dict[int, str]:
    """The sizes of an output that may change, with their names."""
    axes = {0: "batch"} if "batch" in options.dynamic else {}
    if "hw" in options.dynamic and not options.fixed_outputs:
        # Which of the sizes change with height and width, by how many there are.
        of_hw = {3: {options.boxes_axis: "boxes"}, 4: {2: "rows", 3: "columns"}}
        axes.update(of_hw.get(num_sizes, {}))
    return axes


def _keep_zeros_in_pools(graph: Any) -> None:
    """Where padded zeros are pooled, pad with the least positive number.

    onnxruntime (1.18 to 1.23 at least) folds zeros before a MaxPool into its own padding, which
    loses against every value: where all values are negative, their maximum is no longer 0.
    """
    numbers = import_onnx().numpy_helper
    constants = {node.output[0]: node for node in graph.node if node.op_type == "Constant"}
    pooled = {node.input[0] for node in graph.node if node.op_type == "MaxPool"}
    for pad in graph.node:
        if pad.op_type != "Pad" or pad.output[0] not in pooled or len(pad.input) < 3:
            continue
        if (constant := constants.get(pad.input[2])) is not None:
            value = numbers.to_array(constant.attribute[0].t)
            if value == 0:
                least = np.full_like(value, np.finfo(value.dtype).tiny)
                pad.input[2] = f"{pad.output[0]}_least"
                graph.initializer.append(numbers.from_array(least, pad.input[2]))


def _simplified(model: Any) -> Any:
    try:
        import onnxslim
    except ImportError:
        raise MissingPackageError("simplifying needs onnxslim: pip install onnxslim") from None
    ir_version = model.ir_version
    simplified = onnxslim.slim(model)
    simplified.ir_version = ir_version  # older versions of onnxslim write onnx's newest
    return simplified


def check_structure(path: Path, preset: Preset, expected: Expected) -> None:
    """Read a file again and compare it with what it was meant to be.

    Raises:
        CheckFailedError: it is something else; the message says what was found.
    """
    onnx = import_onnx()
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
        unwanted |= set(counts) - preset.operators - (QDQ if preset.quantization else frozenset())
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
    texts = {entry.key: entry.value for entry in model.metadata_props}
    return None if texts == expected.texts else "its metadata is not what was written"


def _about_dimensions(model: Any) -> str | None:
    for value in (*model.graph.value_info, *model.graph.output):
        sizes = value.type.tensor_type.shape.dim
        if len(sizes) > MAX_DIMENSIONS:
            return f"{value.name} has {len(sizes)} dimensions, at most {MAX_DIMENSIONS}"
        if any(not size.HasField("dim_value") for size in sizes):
            return f"the size of {value.name} is not fixed"
    return None
