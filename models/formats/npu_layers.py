"""What a compiler says of each layer: where it runs and how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class NpuLayer:
    """A row of the compiler's table.

    Attributes:
        operator: what the compiler made of it.
        target: CPU, GPU or NPU.
        cycles: estimated by the compiler; 0 where it does not estimate.
        kilobytes: read and written.
        name: with the ONNX node's.
    """

    operator: str
    target: str
    cycles: int
    kilobytes: int
    name: str


@dataclass(frozen=True, slots=True)
class NpuLayers:
    """All layers of a compiled network, in order."""

    layers: tuple[NpuLayer, ...]

    @property
    def cycles(self) -> int:
        """Of all layers together."""
        return sum(layer.cycles for layer in self.layers)

    def as_report(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "layers": len(self.layers),
            "cycles": self.cycles,
            "read_and_written_mb": round(sum(each.kilobytes for each in self.layers) / 1024, 2),
            "table": [
                {"operator": layer.operator, "target": layer.target, "cycles": layer.cycles,
                 "kilobytes": layer.kilobytes, "name": layer.name}
                for layer in self.layers
            ],
        }  # fmt: skip
