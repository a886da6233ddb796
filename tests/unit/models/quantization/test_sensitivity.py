"""Rounding one layer at a time finds the layer that 8 bits harm most."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from models.conversion.deploy import to_deploy
from models.formats.onnx import output_nodes
from models.quantization.qdq_scheme import S8S8, U8S8, QdqScheme
from models.quantization.quantized_onnx import quantize
from models.quantization.sensitivity import layer_nodes, sensitivities
from tests.model_builders import tiny_spec, trained_model
from tests.quantized_builders import conv_outputs, need_wide_scales, noise, run_file, write_raw_maps

SIZE = 64
IMAGES, FEW = noise(4, SIZE), noise(2, SIZE, seed=1)
TENSOR = QdqScheme(per_channel=False)


@torch.no_grad()
def write_spoilt(path: Path, activation: str = "LeakyReLU(0.1)") -> Path:
    """In layer 5, one channel is 300 times as large as it was; its reader makes up for it."""
    detector = to_deploy(trained_model(tiny_spec(activation=activation)))
    first, second = detector.layers[5].conv, detector.layers[6].cv1.conv
    first.weight[0] *= 300
    first.bias[0] *= 300
    second.weight[:, 0] /= 300
    return write_raw_maps(path, detector, SIZE)


@pytest.mark.parametrize("activation", ["LeakyReLU(0.1)", "ReLU"])
def test_the_layer_made_bad_comes_first(activation, tmp_path):
    source = write_spoilt(tmp_path / "f.onnx", activation)
    layers = sensitivities(source, IMAGES, FEW, "minmax", TENSOR)
    ratios = [layer.sqnr_db for layer in layers]
    assert layers[0].name == "/layers.5/conv/Conv"
    assert ratios == sorted(ratios) and ratios[0] < ratios[1] - 10
    assert {layer.name for layer in layers} == set(conv_outputs(source)) - set(output_nodes(source))


def loss(source: Path, quantized: Path) -> float:
    """Noise power of the head maps."""
    pairs = zip(run_file(source, FEW), run_file(quantized, FEW), strict=True)
    return sum(float(np.square(a - b).sum())
               for one, other in pairs for a, b in zip(one, other, strict=True))  # fmt: skip


def test_it_stays_in_float_by_the_names_that_are_given(tmp_path):
    source = write_spoilt(tmp_path / "f.onnx")
    worst = sensitivities(source, IMAGES, FEW, "minmax", TENSOR)[0]
    keep = layer_nodes(source, worst.name)
    quantize(source, tmp_path / "q.onnx", IMAGES, "minmax", TENSOR)
    quantize(source, tmp_path / "m.onnx", IMAGES, "minmax", TENSOR, keep)
    assert loss(source, tmp_path / "m.onnx") < 0.5 * loss(source, tmp_path / "q.onnx")
    weights = {n.name: n.input[1] for n in onnx.load(tmp_path / "m.onnx").graph.node
               if n.op_type == "Conv"}  # fmt: skip
    float_ones = {name for name, weight in weights.items() if "Dequantize" not in weight}
    assert float_ones == {worst.name, *output_nodes(source)}


@pytest.mark.parametrize(
    ("form", "method"),
    [(U8S8, "minmax"), (S8S8, "percentile"), (QdqScheme("u16"), "minmax")],
    ids=["u8", "s8", "u16"],
)
def test_every_form_and_method_has_finite_losses(form, method, tmp_path):
    if form.activations == "u16":
        need_wide_scales()
    source = write_raw_maps(tmp_path / "f.onnx", trained_model(tiny_spec(activation="SiLU")), SIZE)
    ratios = [x.sqnr_db for x in sensitivities(source, IMAGES, FEW, method, form)]
    assert np.isfinite(ratios).all() and min(ratios) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["f.onnx"]


@pytest.mark.parametrize(("activation", "nodes"), [
    ("SiLU", ["Sigmoid", "Mul"]),
    ("ReLU", ["Relu"]),
    ("LeakyReLU(0.1)", ["LeakyRelu"]),
    ("ReLU6", ["Clip"]),
    ("Identity", []),
])  # fmt: skip
def test_a_layer_is_a_convolution_with_its_activation(activation, nodes, tmp_path):
    model = trained_model(tiny_spec(activation=activation))
    source = write_raw_maps(tmp_path / "f.onnx", model, SIZE)
    for layer in ("layers.1", "layers.3/m/m.0/cv2", "layers.6/cv1"):  # plain, then Add, MaxPool
        names = layer_nodes(source, f"/{layer}/conv/Conv")
        assert names == [f"/{layer}/conv/Conv", *(f"/{layer}/act/{node}" for node in nodes)]
    with pytest.raises(ValueError, match="no convolution 'x'"):
        layer_nodes(source, "x")
