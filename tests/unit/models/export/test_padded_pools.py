"""Zeros around what is pooled count in every runtime, also where all values are negative."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from models.export.onnx_file import OnnxOptions, write_onnx


class Pooled(nn.Module):
    """Values below 0, padded and pooled, then padded and convolved."""

    def __init__(self, pad: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LeakyReLU(0.1), pad, nn.MaxPool2d(2, 1), nn.ZeroPad2d(1), nn.Conv2d(3, 2, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(-x)
        return y


def pads_of(path: Path) -> dict[str, float | None]:
    """What each Pad of a file fills in, by the operator that reads it."""
    graph = onnx.load(path).graph
    values = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    values |= {node.output[0]: numpy_helper.to_array(node.attribute[0].t)
               for node in graph.node if node.op_type == "Constant"}  # fmt: skip
    readers = {name: node.op_type for node in graph.node for name in node.input}
    return {readers[node.output[0]]: float(values[node.input[2]]) if node.input[2:] else None
            for node in graph.node if node.op_type == "Pad"}  # fmt: skip


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("simplify", [False, True])
@pytest.mark.parametrize("opset", [11, 20])
def test_zeros_count(half, simplify, opset, tmp_path):
    torch.manual_seed(0)
    network = Pooled(nn.ZeroPad2d((0, 1, 0, 1))).eval().to(torch.float16 if half else torch.float32)
    options = OnnxOptions((8, 8), opset=opset, simplify=simplify, half=half)
    path = tmp_path / "pooled.onnx"
    write_onnx(path, network, options, {})

    image = 1 + np.random.default_rng(0).random((1, 3, 8, 8), np.float32)
    image = image.astype(np.float16 if half else np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(image)).numpy()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": image})
    np.testing.assert_allclose(found, expected, atol=2e-3 if half else 1e-6)
    # Whichever runtime reads the file: it finds no zeros to fold into the pool.
    fills = pads_of(path)
    assert 0 < fills["MaxPool"] < 1e-4
    assert fills.get("Conv", 0) == 0


@pytest.mark.parametrize(("pad", "fill"), [
    (nn.ConstantPad2d(1, -3.0), -3.0), (nn.ReflectionPad2d(1), None),
])  # fmt: skip
def test_other_padding_is_left_alone(pad, fill, tmp_path):
    write_onnx(tmp_path / "pooled.onnx", Pooled(pad).eval(), OnnxOptions((8, 8)), {})
    assert pads_of(tmp_path / "pooled.onnx")["MaxPool"] == fill
