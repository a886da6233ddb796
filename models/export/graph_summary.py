"""What is in an ONNX graph: operators, layers, parameters."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.formats.onnx import import_onnx
from utils.errors import CheckpointError

logger = logging.getLogger(__name__)
_PER_WEIGHT = ("Conv", "Gemm", "MatMul", "ConvTranspose")  # what the layer table lists
_CONVERSIONS = ("DequantizeLinear", "Cast", "Identity")  # the same numbers in another type


@dataclass(frozen=True, slots=True)
class GraphLayer:
    """One node that has weights.

    Attributes:
        name: of the node, or of its output where it has none.
        operator: its kind.
        output: sizes of its output; -1 where one may change.
        parameters: how many numbers it has.
    """

    name: str
    operator: str
    output: tuple[int, ...]
    parameters: int


@dataclass(frozen=True, slots=True)
class GraphSummary:
    """A graph in figures.

    Attributes:
        operators: operator -> nodes, most frequent first.
        parameters: numbers in all constants that are weights.
        layers: nodes with weights, in order.
    """

    operators: dict[str, int]
    parameters: int
    layers: tuple[GraphLayer, ...]

    @property
    def nodes(self) -> int:
        """How many there are."""
        return sum(self.operators.values())

    @classmethod
    def of(cls, path: Path) -> GraphSummary:
        """Read an ONNX file.

        Raises:
            CheckpointError: it is none.
            MissingPackageError: onnx is not installed.
        """
        onnx = import_onnx()
        try:
            model = onnx.load(str(path))
            shapes = _shapes(onnx.shape_inference.infer_shapes(model))
        except Exception as error:  # noqa: BLE001 - parsers of broken files fail in any way
            raise CheckpointError(f"{path}: cannot be read as ONNX: {error}") from None
        weights = _weights(model.graph)
        layers = tuple(
            GraphLayer(
                name=node.name or node.output[0],
                operator=node.op_type,
                output=shapes.get(node.output[0], ()),
                parameters=sum(weights.get(name, 0) for name in node.input),
            )
            for node in model.graph.node
            if node.op_type in _PER_WEIGHT
        )
        return cls(
            operators=dict(Counter(node.op_type for node in model.graph.node).most_common()),
            parameters=sum(layer.parameters for layer in layers),
            layers=layers,
        )

    def report(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "nodes": self.nodes,
            "parameters": self.parameters,
            "operators": self.operators,
            "layers": [
                {
                    "name": layer.name,
                    "operator": layer.operator,
                    "output": list(layer.output),
                    "parameters": layer.parameters,
                }
                for layer in self.layers
            ],
        }


def log_layers(summary: GraphSummary) -> None:
    """The table of layers, and the totals."""
    logger.info("%-44s %-14s %-20s %12s", "layer", "operator", "output", "parameters")
    for layer in summary.layers:
        output = "x".join(str(size) for size in layer.output)
        logger.info("%-44s %-14s %-20s %12s",
                    layer.name[-44:], layer.operator, output, f"{layer.parameters:,}")  # fmt: skip


def log_operators(summaries: Mapping[str, GraphSummary]) -> None:
    """How many nodes of each operator, one column per graph."""
    names = {name for summary in summaries.values() for name in summary.operators}
    largest = {
        name: max(summary.operators.get(name, 0) for summary in summaries.values())
        for name in names
    }
    rows: list[tuple[str, list[int]]] = [
        (name, [summary.operators.get(name, 0) for summary in summaries.values()])
        for name in sorted(names, key=lambda name: (-largest[name], name))
    ]
    rows.append(("nodes", [summary.nodes for summary in summaries.values()]))
    rows.append(("parameters", [summary.parameters for summary in summaries.values()]))
    logger.info("%-20s %s", "operator", "".join(f"{name:>14}" for name in summaries))
    for name, counts in rows:
        logger.info("%-20s %s", name, "".join(f"{count:>14,}" for count in counts))


def _weights(graph: Any) -> dict[str, int]:
    """Tensor -> how many numbers it has, of all constants; converted ones count too."""
    found = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in _CONVERSIONS and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    values = (*model.graph.value_info, *model.graph.output)
    return {
        value.name: tuple(
            size.dim_value if size.HasField("dim_value") else -1
            for size in value.type.tensor_type.shape.dim
        )
        for value in values
    }
