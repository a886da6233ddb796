"""Bias correction: the biases of an INT8 file compensate the mean error of its rounded weights.

The rounding errors of a channel's weights do not cancel: they shift the mean of its output, and its
bias can compensate that at no cost in time (Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", arXiv 1906.04721, sec. 4.2).

The shift that the weights alone cause is measured, on the inputs that the float32 network has, in
one run of it. The same paper's appendix D compares the outputs of both networks instead, layer by
layer, which includes the errors of rounded maps and of all layers before; in trials those means did
not generalize to other images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.quantization.calibration_images import Images
from models.runtimes.network_metadata import INPUT
from models.runtimes.onnx_runner import open_session
from utils.structures import FloatArray


def correct_biases(source: Path, quantized: Path, target: Path, images: Images) -> int:
    """Write an INT8 file in which rounded weights do not shift the mean of any channel.

    For each convolution (sec. 4.2), with E the mean over images, rows and columns, and x the
    convolution's input in the float32 network with its border of zeros,

        b := b - E[(W_rounded - W) * x].

    Convolutions in float32, the head's among them, and those without bias are not changed.
    Only biases change.

    Args:
        source: the float32 file.
        quantized: the file that `quantize` made of it.
        target: where to write; may be `quantized`.
        images: to take the means over: the calibration images.

    Returns:
        The number of corrected convolutions.
    """
    import onnx

    original, model = onnx.load(str(source)), onnx.load(str(quantized))
    errors = _weight_errors(original.graph, model.graph)
    shifts = _mean_shifts(original, errors, images) if errors else {}
    for node in list(model.graph.node):  # a bias that several share adds a node
        if node.name in shifts:
            _Bias.of(model.graph, node).subtract(shifts[node.name])
    target.write_bytes(model.SerializeToString(deterministic=True))
    return len(shifts)


def _weight_errors(original: Any, rounded: Any) -> dict[str, FloatArray]:
    """W_rounded - W, (out, in / groups, kh, kw), by the name of the convolution."""
    from onnx import numpy_helper

    before, after = (
        {tensor.name: tensor for tensor in graph.initializer} for graph in (original, rounded)
    )
    weights = {n.name: before[n.input[1]] for n in original.node if n.op_type == "Conv"}
    undone = {n.output[0]: n for n in rounded.node if n.op_type == "DequantizeLinear"}
    errors = {}
    for node in rounded.node:
        if node.name not in weights or len(node.input) < 3 or node.input[1] not in undone:
            continue
        stored, scale, zero = (
            numpy_helper.to_array(after[name]).astype(np.float64)
            for name in undone[node.input[1]].input
        )
        per_channel = (-1, 1, 1, 1) if scale.ndim else ()
        value = (stored - zero.reshape(per_channel)) * scale.reshape(per_channel)
        exact = numpy_helper.to_array(weights[node.name])
        errors[node.name] = (value - exact).astype(np.float32)
    return errors


def _mean_shifts(
    original: Any, errors: Mapping[str, FloatArray], images: Images
) -> dict[str, FloatArray]:
    """E[error * x] of each channel, (out,), by the name of the convolution."""
    session = open_session(_with_errors(original, errors))
    runs = (session.run(None, {INPUT: image}) for image in images())
    means = [[each.mean((0, 2, 3), dtype=np.float64) for each in run] for run in runs]
    return {n: np.mean(each, 0) for n, each in zip(errors, zip(*means, strict=True), strict=True)}


def _with_errors(original: Any, errors: Mapping[str, FloatArray]) -> bytes:
    """The network with a convolution of each weight error added; its outputs are their means.

    Unlike a product with mean inputs, a convolution of the error is exact at the borders.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.ModelProto()
    model.CopyFrom(original)
    graph = model.graph
    del graph.output[:]
    nodes = {node.name: node for node in original.graph.node}
    for name, error in errors.items():
        weight, shift, mean = f"{name}_error", f"{name}_shift", f"{name}_mean_shift"
        graph.initializer.append(numpy_helper.from_array(error, weight))
        beside = graph.node.add()
        beside.CopyFrom(nodes[name])
        beside.name, beside.input[:], beside.output[:] = shift, [beside.input[0], weight], [shift]
        graph.node.append(helper.make_node("GlobalAveragePool", [shift], [mean], mean))
        graph.output.append(helper.make_tensor_value_info(mean, onnx.TensorProto.FLOAT, None))
    return bytes(model.SerializeToString())


@dataclass(frozen=True, slots=True)
class _Bias:
    """A convolution's bias in a file.

    Attributes:
        tensor: the initializer, float32 or int32.
        scale: step size of an int32 one, per channel or for all; 1 for float32.
    """

    tensor: Any
    scale: FloatArray

    @classmethod
    def of(cls, graph: Any, conv: Any) -> _Bias:
        """The bias of a convolution; one that others share is copied first."""
        from onnx import numpy_helper

        maker = _own_bias(graph, conv)
        constants = {tensor.name: tensor for tensor in graph.initializer}
        if maker is None:
            return cls(constants[conv.input[2]], np.ones(1, np.float32))
        return cls(constants[maker.input[0]], numpy_helper.to_array(constants[maker.input[1]]))

    def subtract(self, shift: FloatArray) -> None:
        """Subtract (channels,) values, rounded to the nearest step of an int32 bias."""
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
    """The DequantizeLinear of the bias, None if it is float; copied where another node reads it.

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
