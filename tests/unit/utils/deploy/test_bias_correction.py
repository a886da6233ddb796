"""Corrected INT8 files have the float32 file's mean outputs, and nothing but biases changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.model_builders import tiny_spec, trained_model
from tests.onnx_builders import save_graph
from tests.quantized_builders import constants, conv_outputs, noise, run_file, write_raw_maps
from utils.deploy.bias_correction import correct_biases
from utils.deploy.presets import S8S8, U8S8, QdqForm
from utils.deploy.quantized_onnx import quantize

SIZE = 64
PICTURES = noise(4, SIZE)


def channel_means(path: Path) -> dict[str, np.ndarray]:
    """Of each convolution's output over all pictures."""
    outputs = conv_outputs(path)
    runs = run_file(path, PICTURES, list(outputs.values()))
    means = [np.mean([run[i].mean((0, 2, 3), np.float64) for run in runs], 0)
             for i in range(len(outputs))]  # fmt: skip
    return dict(zip(outputs, means, strict=True))


@pytest.mark.parametrize("activation", ["LeakyReLU(0.1)", "ReLU", "SiLU"])
@pytest.mark.parametrize("form", [U8S8, QdqForm(per_channel=False), S8S8],
                         ids=["channel", "tensor", "float bias"])  # fmt: skip
def test_means_become_those_of_the_float_file(activation, form, tmp_path):
    source, quantized, target = (tmp_path / f"{name}.onnx" for name in "fqt")
    write_raw_maps(source, trained_model(tiny_spec(activation=activation)), SIZE)
    quantize(source, quantized, PICTURES, "minmax", form)
    assert correct_biases(source, quantized, target, PICTURES) == len(conv_outputs(source))
    expected = channel_means(source)
    before, after = channel_means(quantized), channel_means(target)
    for name, wanted in expected.items():
        worst = np.abs(before[name] - wanted).max()
        assert np.abs(after[name] - wanted).max() <= 0.2 * worst
    changed = [name for name, value in constants(target).items()
               if not np.array_equal(value, constants(quantized)[name])]  # fmt: skip
    assert changed and all("bias" in name and "scale" not in name for name in changed)
    assert onnx.load(target).graph.node == onnx.load(quantized).graph.node


def test_two_runs_give_the_same_bytes_and_may_write_over_the_file(tmp_path):
    source, quantized, target = (tmp_path / f"{name}.onnx" for name in "fqt")
    write_raw_maps(source, trained_model(tiny_spec()), SIZE)
    quantize(source, quantized, PICTURES, "minmax")
    correct_biases(source, quantized, target, PICTURES)
    correct_biases(source, quantized, quantized, PICTURES)
    assert quantized.read_bytes() == target.read_bytes()


def save_convolutions(
    path: Path, weights: list[np.ndarray], biases: list[np.ndarray], size: int
) -> Path:
    """1x1 convolutions in a row, the last one being the head; they share a bias if it is one."""
    names = ["images", *(f"x{i}" for i in range(len(weights) - 1)), "p3"]
    inputs = [[name, f"w{i}", f"b{i % len(biases)}"] for i, name in enumerate(names[:-1])]
    nodes = [helper.make_node("Conv", inputs[i], [names[i + 1]], f"conv{i}")
             for i in range(len(weights))]  # fmt: skip
    shape = [1, 3, size, size]
    arrays = {f"{kind}{i}": value for kind, values in (("w", weights), ("b", biases))
              for i, value in enumerate(values)}  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("p3", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in arrays.items()],
    )
    return save_graph(path, graph, {})


@pytest.mark.parametrize("per_channel", [True, False])
def test_what_rounding_leaves_alone_is_left_alone(per_channel, tmp_path):
    """Pictures of zeros and ones, weights of one size: every number is on its grid."""
    source, quantized, target = (tmp_path / f"{name}.onnx" for name in "fqt")
    weights = np.ones((3, 3)) - 2 * np.eye(3)  # outputs -1 to 2, plus 1: a 255th of 3 divides 1
    save_convolutions(source, [weights[..., None, None]] * 2, [np.ones(3), np.zeros(3)], SIZE)
    binary = [np.rint(picture) for picture in PICTURES()]
    quantize(source, quantized, lambda: binary, "minmax", QdqForm(per_channel=per_channel))
    assert correct_biases(source, quantized, target, lambda: binary) == 2
    before = constants(quantized)
    for name, value in constants(target).items():
        if value.dtype == np.int32:
            np.testing.assert_array_equal(value, before[name])
        else:
            np.testing.assert_allclose(value, before[name], atol=1e-6)


@pytest.mark.parametrize("form", [U8S8, S8S8], ids=["int32", "float"])
def test_a_bias_that_several_share_is_corrected_for_each(form, tmp_path):
    source, quantized, target = (tmp_path / f"{name}.onnx" for name in "fqt")
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(3, 3, 1, 1)) for _ in range(3)]
    save_convolutions(source, weights, [np.array([0.5, 0, -0.5])], SIZE)
    quantize(source, quantized, PICTURES, "minmax", form)
    assert correct_biases(source, quantized, target, PICTURES) == 3
    expected, before, after = (channel_means(path) for path in (source, quantized, target))
    for name, wanted in expected.items():
        assert np.abs(after[name] - wanted).max() <= 0.2 * np.abs(before[name] - wanted).max()
    onnx.checker.check_model(onnx.load(target), full_check=True)


def test_a_convolution_without_bias_is_left_alone(tmp_path):
    source, quantized, target = (tmp_path / f"{name}.onnx" for name in "fqt")
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(3, 3, 1, 1)) for _ in range(2)]
    save_convolutions(source, weights, [np.ones(3)] * 2, SIZE)
    model = onnx.load(source)
    del model.graph.node[0].input[2], model.graph.initializer[2]
    onnx.save(model, source)
    quantize(source, quantized, PICTURES, "minmax")
    assert correct_biases(source, quantized, target, PICTURES) == 1
