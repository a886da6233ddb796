"""Sensitivity of each convolution to INT8, to choose which ones stay in float32.

One convolution at a time is rounded, all others stay in float32, and the head maps are compared, as
the partial quantization of YOLOv6 ranks layers (Li et al., arXiv 2209.02976). The ranges are
calibrated once, for all layers together, so they are those of the INT8 file.
"""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.formats.onnx import output_nodes
from models.quantization.calibration_images import Images
from models.quantization.qdq_scheme import QdqScheme
from models.quantization.quantized_onnx import Layer, quantize
from models.runtimes.network_metadata import INPUT
from models.runtimes.onnx_runner import open_session
from utils.structures import FloatArray

# Operators that activations are written with; only these join a convolution in float32.
ACTIVATION_OPERATORS = frozenset(
    ("Relu", "LeakyRelu", "Clip", "HardSwish", "HardSigmoid", "Sigmoid", "Softplus", "Tanh", "Erf",
     "Mul", "Div", "Add")
)  # fmt: skip


def sensitivities(
    source: Path,
    images: Images,
    few: Images,
    method: str,
    scheme: QdqScheme,
) -> list[Layer]:
    """The signal-to-noise ratio of the head maps with one convolution rounded, worst first.

    A convolution is rounded with its activation (`layer_nodes`): its weights, its output and the
    activation's output; its input belongs to the layer before, its bias stays in float32.

    Args:
        source: the float32 file that ends in raw maps, opset 13 or later.
        images: to calibrate on, once.
        few: to compare head maps on.
        method: of calibration, one of quantized_onnx.METHODS.
        scheme: integer types, symmetry and granularity.

    Returns:
        Each convolution but the head's: the name of its node, which `quantize(keep_float=)` takes,
        and 10 log10 of signal over noise, with noise over signal averaged over the head maps.
    """
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        quantized, prepared = Path(folder) / "quantized.onnx", Path(folder) / "prepared.onnx"
        quantize(source, quantized, images, method, scheme)
        _prepare(source, prepared)
        network = _Network.of(prepared, quantized)
        head = set(output_nodes(prepared))
    compared = list(few())
    expected = _head_maps(network.rounded(()), compared)
    layers = []
    for node in network.model.graph.node:
        if node.op_type == "Conv" and node.name not in head:
            found = _head_maps(network.rounded(_layer(network.model.graph, node.name)), compared)
            layers.append(Layer(node.name, _sqnr_db(expected, found)))
    return sorted(layers, key=lambda layer: layer.sqnr_db)


def layer_nodes(source: Path, conv_name: str) -> list[str]:
    """A convolution and the nodes of its activation, by the names `quantize(keep_float=)` takes.

    With the convolution alone in float32, its output would still be rounded for its activation,
    and a Sigmoid's output for the product of a SiLU.

    Args:
        source: the float32 file.
        conv_name: a name that `sensitivities` gives.

    Raises:
        ValueError: the file has no such convolution.
    """
    import onnx

    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        prepared = Path(folder) / "prepared.onnx"
        _prepare(source, prepared)
        return _layer(onnx.load(str(prepared)).graph, conv_name)


def _layer(graph: Any, conv_name: str) -> list[str]:
    """The convolution and the activation nodes that read its output only, in order."""
    names: list[str] = []
    inside: set[str] = set()
    constants = {"", *(tensor.name for tensor in graph.initializer)}
    for node in graph.node:
        if node.op_type == "Constant":
            constants.update(node.output)
        belongs = (
            node.op_type in ACTIVATION_OPERATORS
            and bool(inside & set(node.input))
            and inside | constants >= set(node.input)
        )
        if belongs or (node.op_type == "Conv" and node.name == conv_name):
            names.append(node.name)
            inside.update(node.output)
    if not names:
        raise ValueError(f"there is no convolution {conv_name!r}")
    return names


@dataclass(frozen=True, slots=True)
class _Network:
    """A float32 network with the rounding of each tensor in its INT8 file.

    Attributes:
        model: the float32 network as the quantizer sees it.
        opsets: those of the INT8 file; 16-bit pairs need opset 21.
        pairs: the QuantizeLinear and DequantizeLinear of an activation, by its name.
        weights: the DequantizeLinear of a convolution's weights, by the convolution's name.
        constants: initializers of the INT8 file, by name.
    """

    model: Any
    opsets: list[Any]
    pairs: dict[str, list[Any]]
    weights: dict[str, Any]
    constants: dict[str, Any]

    @classmethod
    def of(cls, prepared: Path, quantized: Path) -> _Network:
        """Read both files, in which nodes have the same names."""
        import onnx

        model = onnx.load(str(quantized))
        nodes = model.graph.node
        undone = {node.input[0]: node for node in nodes if node.op_type == "DequantizeLinear"}
        made = {node.output[0]: node for node in undone.values()}
        rounding = [node for node in nodes if node.op_type == "QuantizeLinear"]
        return cls(
            onnx.load(str(prepared)),
            list(model.opset_import),
            {node.input[0]: [node, undone[node.output[0]]] for node in rounding},
            {n.name: made[n.input[1]] for n in nodes if n.op_type == "Conv" and n.input[1] in made},
            {tensor.name: tensor for tensor in model.graph.initializer},
        )

    def rounded(self, names: Collection[str]) -> bytes:
        """The bytes of a file of the network with these nodes' weights and outputs rounded.

        An output that the INT8 file does not round stays float32: there is no pair between a
        convolution and its ReLU, because the range of the ReLU's output starts at zero.
        """
        model = copy.deepcopy(self.model)
        nodes: list[Any] = []
        added: list[Any] = []
        renamed: dict[str, str] = {}
        for node in model.graph.node:
            inputs = [renamed.get(name, name) for name in node.input]
            if node.name in names and node.name in self.weights:
                added.append(self.weights[node.name])
                nodes.append(added[-1])
                inputs[1] = added[-1].output[0]
            node.input[:] = inputs
            nodes.append(node)
            for output in node.output:
                if node.name in names and output in self.pairs:
                    added.extend(self.pairs[output])
                    nodes.extend(self.pairs[output])
                    renamed[output] = added[-1].output[0]
        needed = {name for node in added for name in node.input if name in self.constants}
        nodes = [copy.deepcopy(node) for node in nodes]  # deleting frees those of the graph
        del model.graph.node[:], model.opset_import[:]
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(self.constants[name] for name in sorted(needed))
        model.opset_import.extend(self.opsets)
        return bytes(model.SerializeToString())


def _prepare(source: Path, prepared: Path) -> None:
    """Preprocess as `quantize` does: nodes may be removed and renamed."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)


def _head_maps(model: bytes, images: Iterable[FloatArray]) -> list[list[FloatArray]]:
    """For each image, the head maps (B, A * (5 + C), H, W)."""
    session = open_session(model)
    return [session.run(None, {INPUT: image}) for image in images]


def _sqnr_db(
    expected: Sequence[Sequence[FloatArray]], found: Sequence[Sequence[FloatArray]]
) -> float:
    """Signal to noise over several images; infinite where nothing differs."""
    ratios = []
    for wanted, answers in zip(zip(*expected, strict=True), zip(*found, strict=True), strict=True):
        signal = sum(float(np.square(one, dtype=np.float64).sum()) for one in wanted)
        pairs = zip(wanted, answers, strict=True)
        noise = sum(float(np.square(a - b, dtype=np.float64).sum()) for a, b in pairs)
        ratios.append(noise / max(signal, np.finfo(np.float64).tiny))
    mean = float(np.mean(ratios))
    return -10 * math.log10(mean) if mean > 0 else math.inf
