"""ONNX files: writing, tidying, and reading back what was written."""

from __future__ import annotations

import io
import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from utils.errors import ConfigError, MissingPackageError

DEFAULT_OPSET = 17
NEWEST_OPSET = 20  # that is written here
INPUT, OUTPUT = "images", "output0"
# Which of an output's sizes change with height and width, by how many sizes it has.
_SIZES_OF_HW = {3: {1: "boxes"}, 4: {2: "rows", 3: "columns"}}


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
        half: the input is float16.
    """

    input_hw: tuple[int, int]
    batch_size: int = 1
    dynamic: tuple[str, ...] = ()
    opset: int = DEFAULT_OPSET
    simplify: bool = True
    outputs: tuple[str, ...] = (OUTPUT,)
    fixed_outputs: bool = False
    half: bool = False


def write_onnx(
    path: Path, network: nn.Module, options: OnnxOptions, metadata: Mapping[str, Any]
) -> None:
    """Write a network with one input.

    Args:
        path: file to write.
        network: in eval mode, on the CPU, (B, 3, H, W) -> as many tensors as `options.outputs`.
        options: shapes and opset.
        metadata: key -> value, stored as JSON texts.

    Raises:
        MissingPackageError: onnx or onnxslim is not installed.
    """
    onnx = _import_onnx()
    model = onnx.load_from_string(_traced(network, options))
    if options.simplify:
        model = _simplified(model)
    for node in model.graph.node:  # source lines and scopes of this machine
        node.doc_string = ""
        del node.metadata_props[:]
    model.producer_name, model.producer_version, model.doc_string = "reparam-yolov5", "", ""
    del model.metadata_props[:]
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, json.dumps(value)
    path.write_bytes(model.SerializeToString(deterministic=True))


def operator_counts(path: Path) -> dict[str, int]:
    """How many nodes of each operator a file has, most frequent first."""
    graph = _import_onnx().load(str(path)).graph
    return dict(Counter(node.op_type for node in graph.node).most_common())


def output_nodes(path: Path) -> list[str]:
    """Names of the nodes that make the outputs, in the outputs' order."""
    graph = _import_onnx().load(str(path)).graph
    makers = {output: node.name for node in graph.node for output in node.output}
    return [makers[output.name] for output in graph.output]


def _traced(network: nn.Module, options: OnnxOptions) -> bytes:
    """The file as PyTorch's TorchScript exporter writes it.

    The newer exporter (dynamo) ignores opsets below 18 without an error and writes source paths of
    this machine into the file.
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
    return buffer.getvalue()


def _output_axes(num_sizes: int, options: OnnxOptions) -> dict[int, str]:
    """The sizes of an output that may change, with their names."""
    axes = {0: "batch"} if "batch" in options.dynamic else {}
    if "hw" in options.dynamic and not options.fixed_outputs:
        axes.update(_SIZES_OF_HW.get(num_sizes, {}))
    return axes


def _simplified(model: Any) -> Any:
    try:
        import onnxslim
    except ImportError:
        raise MissingPackageError("simplifying needs onnxslim: pip install onnxslim") from None
    return onnxslim.slim(model)


def _import_onnx() -> Any:
    try:
        import onnx
    except ImportError:
        raise MissingPackageError("ONNX files need onnx: pip install onnx") from None
    return onnx


def dynamic_axes_of(words: Sequence[str] | None) -> tuple[str, ...]:
    """What `--dynamic` asks for: nothing, some of batch and hw, or (bare) both.

    Raises:
        ConfigError: another word.
    """
    if words is None:
        return ()
    for word in words:
        if word not in ("batch", "hw"):
            raise ConfigError(f"--dynamic {word}: expected batch, hw, or nothing for both")
    return tuple(words) or ("batch", "hw")
