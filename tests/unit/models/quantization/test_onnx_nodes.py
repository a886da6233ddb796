"""Operators of ONNX files in torch, each against onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from models.formats.format import NPU_OPERATORS
from models.quantization.onnx_nodes import OPERATORS, nodes_of, unsupported


def test_operators_are_those_of_accelerators():
    assert set(OPERATORS) == NPU_OPERATORS | {"HardSigmoid"}  # half of a HardSwish


def one_node(operator: str, shape: tuple[int, ...], *, extra=(), **attributes) -> onnx.ModelProto:
    constants = [numpy_helper.from_array(each, f"c{i}") for i, each in enumerate(extra)]
    node = helper.make_node(operator, ["x", *(c.name for c in constants)], ["y"], **attributes)
    value = helper.make_tensor_value_info
    inputs = [value("x", TensorProto.FLOAT, shape)]
    graph = helper.make_graph([node], "g", inputs, [value("y", TensorProto.FLOAT, None)], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


@pytest.mark.parametrize(
    ("operator", "extra", "attributes"),
    [
        ("Conv", [(6, 2, 3, 3)], {"group": 2, "pads": [1, 0, 2, 1], "strides": [2, 1]}),
        ("Conv", [(3, 4, 3, 3), (3,)], {"dilations": [2, 2]}),
        ("MaxPool", [], {"kernel_shape": [3, 2], "pads": [1, 0, 0, 1], "strides": [2, 2]}),
        ("MaxPool", [], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
        ("LeakyRelu", [], {}),
        ("Clip", [], {}),
        ("Clip", [()], {}),
        ("HardSwish", [], {}),
        ("HardSigmoid", [], {}),
        ("Concat", [(2, 3, 7, 9)], {"axis": 1}),
    ],
)
def test_operators_with_less_usual_attributes(operator, extra, attributes):
    """Against onnxruntime: paddings that differ from side to side, groups, defaults."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 4, 7, 9), np.float32) * 4
    others = [rng.standard_normal(shape, np.float32) for shape in extra]
    model = one_node(operator, x.shape, extra=others, **attributes)
    (node,) = nodes_of(model)
    assert unsupported(node) == ""
    found = OPERATORS[operator]([torch.from_numpy(v) for v in (x, *others)], node.attributes)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    np.testing.assert_allclose(found.numpy(), session.run(None, {"x": x})[0], atol=1e-5)
