"""The table of layers among what Rockchip's compiler prints."""

from __future__ import annotations

import pytest

from models.formats.npu_layers import NpuLayer, NpuLayers
from models.formats.rknn_layers import off_npu, read_layers
from utils.errors import CheckFailedError

RULE = "D RKNN: [12:00:00.000] " + "-" * 40
HEAD = ("D RKNN: [12:00:00.000] ID   OpType   DataType Target InputShape  OutputShape  "
        "Cycles(DDR/NPU/Total)    RW(KB)       FullName")  # fmt: skip
ROWS = [
    r"0 InputOperator  INT8    CPU \ (1,3,320,320) 0/0/0 0 InputOperator:images",
    r"1 ConvRelu       INT8    NPU (1,3,320,320),(16,3,3,3),(16) (1,16,160,160) "
    r"30704/230400/230400 309 Conv:/layers.0/conv/Conv",
    r"2 Softmax        FLOAT16 CPU (1,16,160,160) (1,16,160,160) 0/0/0 12 Softmax:/odd",
    r"3 OutputOperator INT8    CPU (1,24,40,40) \ 0/0/0 50 OutputOperator:p3",
]


def printed(rows: list[str]) -> str:
    """With a table of tensors after it, whose rows look alike."""
    title = "D RKNN: [12:00:00.000]     Network Layer Information Table    "
    tensors = "D RKNN: [12:00:00.000]     Feature Tensor Information Table"
    tensor = "D RKNN: [12:00:00.000] 1  ConvRelu images INT8 NPU (1,3) (1,3) 1/2/3 4 | 0x00"
    table = [f"D RKNN: [12:00:00.000] {row}" for row in rows]
    return "\n".join(["I before", title, RULE, HEAD, RULE, *table, RULE, tensors, tensor, "I end"])


def test_every_row_is_read():
    found = read_layers(printed(ROWS))
    assert found.layers == (
        NpuLayer("InputOperator", "CPU", 0, 0, "InputOperator:images"),
        NpuLayer("ConvRelu", "NPU", 230400, 309, "Conv:/layers.0/conv/Conv"),
        NpuLayer("Softmax", "CPU", 0, 12, "Softmax:/odd"),
        NpuLayer("OutputOperator", "CPU", 0, 50, "OutputOperator:p3"),
    )
    assert found.cycles == 230400


def test_the_last_table_counts():
    assert len(read_layers(printed(ROWS) + "\n" + printed(ROWS[:2])).layers) == 2


@pytest.mark.parametrize("rows", [[], ROWS[1:], [ROWS[0], "1 Odd row", *ROWS[2:]]])
def test_a_table_that_cannot_be_read_is_said(rows):
    with pytest.raises(CheckFailedError, match="table of layers"):
        read_layers(printed(rows))
    with pytest.raises(CheckFailedError, match="table of layers"):
        read_layers("I nothing here")


def test_what_is_not_on_the_npu():
    found = read_layers(printed(ROWS))
    assert off_npu(found) == ["Softmax:/odd"]
    assert off_npu(NpuLayers((*found.layers[:2], found.layers[3]))) == []
