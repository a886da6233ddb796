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

from utils.errors import CheckFailedError, ConfigError, MissingPackageError

OPSETS = range(11, 21)  # what the TorchScript exporter really writes, no more and no less
DEFAULT_OPSET = 17
INPUT, OUTPUT = "images", "output0"


@dataclass(frozen=True, slots=True)
class OnnxOptions:
    """How a network is written.

    Attributes:
        input_hw: height and width of the input.
        batch_size: pictures per run.
        dynamic: which of "batch" and "hw" may change from run to run.
        opset: ONNX operator set version.
        simplify: fold constants and drop what has no effect.
    """

    input_hw: tuple[int, int]
    batch_size: int = 1
    dynamic: tuple[str, ...] = ()
    opset: int = DEFAULT_OPSET
    simplify: bool = True


def write_onnx(
    path: Path, network: nn.Module, options: OnnxOptions, metadata: Mapping[str, Any]
) -> None:
    """Write a network with one input and one output.

    Args:
        path: file to write.
        network: in eval mode, on the CPU, (B, 3, H, W) -> (B, N, 5 + C).
        options: shapes and opset.
        metadata: key -> value, stored as JSON texts.

    Raises:
        ConfigError: an opset that cannot be written.
        CheckFailedError: the file does not hold what was asked for.
    """
    if options.opset not in OPSETS:
        raise ConfigError(
            f"--opset {options.opset}: this exporter writes {OPSETS.start} to {OPSETS.stop - 1}"
        )
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
    onnx.checker.check_model(model, full_check=True)
    written = next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    if written != options.opset:
        raise CheckFailedError(f"{path}: opset {written} came out, {options.opset} was asked for")
    path.write_bytes(model.SerializeToString(deterministic=True))


def operator_counts(path: Path) -> dict[str, int]:
    """How many nodes of each operator a file has, most frequent first."""
    graph = _import_onnx().load(str(path)).graph
    return dict(Counter(node.op_type for node in graph.node).most_common())


def group_errors(reference: Any, other: Any) -> dict[str, float]:
    """Largest relative error per group of columns of decoded predictions (B, N, 5 + C).

    max |a - b| / max |a| over all boxes: pixels would hide dead scores in one common figure.
    """
    groups = {
        "xy": slice(0, 2),
        "wh": slice(2, 4),
        "objectness": slice(4, 5),
        "class": slice(5, None),
    }
    return {
        name: float(abs(reference[..., columns] - other[..., columns]).max())
        / float(abs(reference[..., columns]).max())
        for name, columns in groups.items()
    }


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
    output_axes = {0: "batch"} if "batch" in options.dynamic else {}
    if "hw" in options.dynamic:
        output_axes[1] = "boxes"
    buffer = io.BytesIO()
    example = torch.zeros(options.batch_size, 3, *options.input_hw)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter announces its retirement at each call
        torch.onnx.export(
            network,
            (example,),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=options.opset,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: axes, OUTPUT: output_axes} if axes else None,
        )
    return buffer.getvalue()


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
