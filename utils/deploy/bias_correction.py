"""Taking the mean error of each channel out of an INT8 file's biases.

Rounded weights, and rounded and clipped inputs, shift the mean of a convolution's output; a bias
takes that back at no cost in time (Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", arXiv 1906.04721, sec. 4.2 and appendix D).

The means are measured on pictures instead of computed as (W_rounded - W) E[x]: that would leave out
the borders, which are padded with zeros, and all that rounding does to the inputs. The price is one
run per depth of the network instead of one; convolutions that do not see each other share a run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.deploy.calibration_pictures import Pictures
from utils.deploy.quantized_onnx import INPUT
from utils.structures import FloatArray

Means = dict[str, FloatArray]  # name of a convolution -> (channels,)


def correct_biases(source: Path, quantized: Path, target: Path, pictures: Pictures) -> int:
    """Write an INT8 file whose convolutions have the float32 file's mean outputs.

    For each convolution in turn, with those before it corrected already (appendix D),

        b := b - (E[y_rounded] - E[y]),

    where y is the output before the activation and E the mean over pictures, rows and columns. The
    head's convolutions, though in float32, are corrected too: the errors of all others reach them.
    What has no bias is left as it is. Nothing but biases changes.

    Args:
        source: the float32 file.
        quantized: the file that `quantize` made of it.
        target: where to write; may be `quantized`.
        pictures: to take the means over: those it was calibrated on.

    Returns:
        How many convolutions were corrected.
    """
    import onnx

    model = onnx.load(str(quantized))
    original = onnx.load(str(source))
    names = {node.name for node in original.graph.node if node.op_type == "Conv"}
    convs = [n for n in model.graph.node if n.name in names and n.op_type == "Conv"]
    convs = [node for node in convs if len(node.input) > 2 and node.input[2]]
    expected = _channel_means(original, [node.name for node in convs], pictures)
    for level in _by_depth(model.graph, convs):
        found = _channel_means(model, [node.name for node in level], pictures)
        for node in level:
            _Bias.of(model.graph, node).subtract(found[node.name] - expected[node.name])
    target.write_bytes(model.SerializeToString(deterministic=True))
    return len(convs)


@dataclass(frozen=True, slots=True)
class _Bias:
    """A convolution's bias in a file.

    Attributes:
        tensor: the initializer, float32 or int32.
        scale: what a step of an int32 one is worth: of each channel or of all; 1 for float32.
    """

    tensor: Any
    scale: FloatArray

    @classmethod
    def of(cls, graph: Any, conv: Any) -> _Bias:
        """The bias of this convolution alone: one that others share becomes its own first."""
        from onnx import numpy_helper

        maker = _own_bias(graph, conv)
        constants = {tensor.name: tensor for tensor in graph.initializer}
        if maker is None:
            return cls(constants[conv.input[2]], np.ones(1, np.float32))
        return cls(constants[maker.input[0]], numpy_helper.to_array(constants[maker.input[1]]))

    def subtract(self, shift: FloatArray) -> None:
        """Take (channels,) away, to the nearest step."""
        from onnx import numpy_helper

        value = numpy_helper.to_array(self.tensor)
        if value.dtype == np.int32:
            limits = np.iinfo(np.int32)
            steps = value - np.round(shift.astype(np.float64) / self.scale)
            changed = np.clip(steps, limits.min, limits.max).astype(np.int32)
        else:
            changed = (value - shift).astype(value.dtype)
        self.tensor.CopyFrom(numpy_helper.from_array(changed, self.tensor.name))


def _own_bias(graph: Any, conv: Any) -> Any:
    """The node that makes the bias float, None if it is; copied where another reads it too.

    Equal biases, as those of fresh networks are, become one initializer on the way into a file.
    """
    readers = [name for node in graph.node for name in node.input]
    maker = next((node for node in graph.node if conv.input[2] in node.output), None)
    stored = conv.input[2] if maker is None else maker.input[0]
    if readers.count(conv.input[2]) == 1 and readers.count(stored) == 1:
        return maker
    tensor = next(tensor for tensor in graph.initializer if tensor.name == stored)
    graph.initializer.add().CopyFrom(tensor)
    graph.initializer[-1].name = f"{conv.name}_bias"
    if maker is None:
        conv.input[2] = graph.initializer[-1].name
        return None
    graph.node.insert(0, maker)  # it reads constants alone
    own = graph.node[0]
    own.name, own.input[0] = f"{conv.name}_bias_DequantizeLinear", graph.initializer[-1].name
    own.output[0] = conv.input[2] = f"{conv.name}_bias_float"
    return own


def _by_depth(graph: Any, convs: Sequence[Any]) -> list[list[Any]]:
    """Convolutions grouped by how many are at most in front of them, fewest first."""
    chosen = {node.name for node in convs}
    depth: dict[str, int] = {}  # of tensors: how many of these convolutions lead to them
    levels: dict[int, list[Any]] = defaultdict(list)
    for node in graph.node:  # sorted: makers come before readers
        before = max((depth.get(name, 0) for name in node.input), default=0)
        if node.op_type == "Conv" and node.name in chosen:
            levels[before].append(node)
            before += 1
        depth.update(dict.fromkeys(node.output, before))
    return [levels[number] for number in sorted(levels)]


def _channel_means(model: Any, names: Iterable[str], pictures: Pictures) -> Means:
    """The mean output of each channel of these convolutions, before the activation."""
    import onnxruntime

    outputs = {node.name: node.output[0] for node in model.graph.node if node.op_type == "Conv"}
    wanted = {name: outputs[name] for name in names}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        _part(model, list(wanted.values())), options, ["CPUExecutionProvider"]
    )
    runs = (session.run(None, {INPUT: picture}) for picture in pictures())
    means = [[each.mean((0, 2, 3), dtype=np.float64) for each in run] for run in runs]
    return {n: np.mean(each, 0) for n, each in zip(wanted, zip(*means, strict=True), strict=True)}


def _part(model: Any, wanted: Sequence[str]) -> bytes:
    """What leads to these tensors, ending in the mean of each of their channels, as a file."""
    import onnx
    from onnx import helper

    needed, nodes = set(wanted), []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed.update(node.input)
    means = [f"{name}_mean" for name in wanted]
    graph = helper.make_graph(
        [
            *reversed(nodes),
            *(helper.make_node("GlobalAveragePool", [n], [m])
              for n, m in zip(wanted, means, strict=True)),
        ],
        model.graph.name,
        model.graph.input,
        [helper.make_tensor_value_info(mean, onnx.TensorProto.FLOAT, None) for mean in means],
        [tensor for tensor in model.graph.initializer if tensor.name in needed],
    )  # fmt: skip
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return bytes(part.SerializeToString())
