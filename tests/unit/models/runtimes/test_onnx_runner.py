"""8-bit files compute the same on every processor."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.runtimes import onnx_runner
from models.runtimes.onnx_runner import EXACT_SUMS, open_session

CHANNELS, OUT = 16, 8


def largest_products(kind: type[np.signedinteger] | type[np.unsignedinteger]) -> onnx.ModelProto:
    """A convolution whose inputs and weights are the largest of their integers, scales 1."""
    top = np.iinfo(kind).max
    constants = {
        "one": np.float32(1),
        "zero": kind(0),
        "weights": np.full((OUT, CHANNELS, 1, 1), 127, np.int8),
        "of_weights": np.int8(0),
        "of_sums": np.float32(127 * int(top) * CHANNELS / top),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "one", "zero"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["rounded", "one", "zero"], ["inputs"]),
        helper.make_node("DequantizeLinear", ["weights", "one", "of_weights"], ["kernels"]),
        helper.make_node("Conv", ["inputs", "kernels"], ["sums"]),
        helper.make_node("QuantizeLinear", ["sums", "of_sums", "zero"], ["rounded_sums"]),
        helper.make_node("DequantizeLinear", ["rounded_sums", "of_sums", "zero"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes, "sums",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, (1, CHANNELS, 8, 8))],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, (1, OUT, 8, 8))],
        [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def twice(model: onnx.ModelProto) -> onnx.ModelProto:
    """A second convolution with the same weights, on the same inputs."""
    nodes = [
        helper.make_node("Conv", ["inputs", "kernels"], ["more"]),
        helper.make_node("QuantizeLinear", ["more", "of_sums", "zero"], ["rounded_more"]),
        helper.make_node("DequantizeLinear", ["rounded_more", "of_sums", "zero"], ["other"]),
    ]
    model.graph.node.extend(nodes)
    model.graph.output.add().CopyFrom(model.graph.output[0])
    model.graph.output[1].name = "other"
    return model


@pytest.mark.parametrize("shared", [False, True], ids=["", "two of the same weights"])
@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_sums_of_products_do_not_saturate(kind, shared):
    """On x86 without VNNI they do in onnxruntime as it is."""
    model, top = largest_products(kind), np.iinfo(kind).max
    session = open_session((twice(model) if shared else model).SerializeToString())
    image = np.full((1, CHANNELS, 8, 8), top, np.float32)
    for output in session.run(None, {"images": image}):
        np.testing.assert_allclose(output, 127 * int(top) * CHANNELS, rtol=1e-6)


def test_it_is_asked_for_where_vnni_may_be_missing(monkeypatch):
    model = largest_products(np.uint8).SerializeToString()
    for may_lack in (True, False):
        monkeypatch.setattr(onnx_runner, "may_lack_vnni", lambda answer=may_lack: answer)
        options = open_session(model, config={"a": "b"}).get_session_options()
        assert options.get_session_config_entry("a") == "b"
        if may_lack:
            assert options.get_session_config_entry(EXACT_SUMS) == "1"
        else:
            with pytest.raises(Exception, match=EXACT_SUMS):
                options.get_session_config_entry(EXACT_SUMS)


def test_what_is_no_network():
    with pytest.raises(Exception, match=r"(?i)protobuf|model"):
        open_session(b"nothing")
