"""The table of layers that rknn-toolkit2 prints."""

from __future__ import annotations

import re

from models.formats.npu_layers import NpuLayer, NpuLayers
from utils.errors import CheckFailedError

_TITLE = "Network Layer Information Table"
# ID OpType DataType Target InputShape OutputShape Cycles(DDR/NPU/Total) RW(KB) FullName
_ROW = re.compile(
    r"(?P<number>\d+)\s+(?P<operator>\w+)\s+(?P<numbers>\w+)\s+(?P<target>CPU|NPU|GPU)\s+"
    r"\S+\s+\S+\s+\d+/\d+/(?P<cycles>\d+)\s+(?P<kilobytes>\d+)\s+(?P<name>\S+)"
)
# The two ends of every network are converted by the processor.
ENDS = frozenset(("InputOperator", "OutputOperator"))


def read_layers(printed: str) -> NpuLayers:
    """The table among what the compiler printed.

    Raises:
        CheckFailedError: there is none, or some of it is not understood.
    """
    _, _, rest = printed.rpartition(_TITLE)
    table, _, _ = rest.partition("Information Table")  # of the tensors
    rows = [
        row
        for line in table.splitlines()
        if (row := _ROW.search(line.partition("]")[2])) is not None
    ]
    if not rows or [int(row["number"]) for row in rows] != list(range(len(rows))):
        raise CheckFailedError("the table of layers that rknn-toolkit2 prints cannot be read")
    return NpuLayers(
        tuple(
            NpuLayer(
                operator=row["operator"],
                target=row["target"],
                cycles=int(row["cycles"]),  # 0 for all but convolutions: not estimated
                kilobytes=int(row["kilobytes"]),
                name=row["name"],
            )
            for row in rows
        )
    )


def off_npu(npu_layers: NpuLayers) -> list[str]:
    """Names of layers inside the network that do not run on the NPU."""
    return [
        layer.name
        for layer in npu_layers.layers
        if layer.target != "NPU" and layer.operator not in ENDS
    ]
