"""Rounded weights shift no mean any more, and nothing but biases changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from models.conversion.deploy import to_deploy
from models.formats.onnx import output_nodes
from models.quantization.bias_correction import correct_biases
from models.quantization.qdq_scheme import S8S8, U8S8, QdqScheme
from models.quantization.quantized_onnx import quantize
from tests.model_builders import tiny_spec, trained_model
from tests.onnx_builders import save_graph
from tests.quantized_builders import constants, conv_outputs, noise, run_file, write_raw_maps

SIZE = 64
IMAGES = noise(4, SIZE)


def weights_of(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Weight and bias of each convolution, integers as the values they represent."""
    values = constants(path)
    nodes = onnx.load(path).graph.node
    for node in nodes:
        if node.op_type == "DequantizeLinear" and node.input[0] in values:
            whole, scale, zero = (values[name].astype(np.float64) for name in node.input)
            ends = (-1,) + (1,) * (whole.ndim - 1) if scale.size > 1 else ()
            values[node.output[0]] = (whole - zero.reshape(ends)) * scale.reshape(ends)
    return {n.name: tuple(values[name] for name in n.input[1:])
            for n in nodes if n.op_type == "Conv"}  # fmt: skip


def channel_means(source: Path, weights: dict) -> dict[str, np.ndarray]:
    """Mean of each convolution over all images, on the inputs it has in the float file."""
    model = onnx.load(source)
    graph = model.graph
    convs = [node for node in graph.node if node.op_type == "Conv"]
    for node in convs:
        graph.node.add().CopyFrom(node)
        inputs = [f"{node.name} weight", f"{node.name} bias"]
        for name, value in zip(inputs, weights[node.name], strict=True):
            graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
        graph.node[-1].name = graph.node[-1].output[0] = f"{node.name} twin"
        graph.node[-1].input[1:] = inputs
    path = source.with_name("twins.onnx")
    onnx.save(model, path)
    runs = run_file(path, IMAGES, [f"{node.name} twin" for node in convs])
    means = [[each.mean((0, 2, 3), np.float64) for each in run] for run in runs]
    return {node.name: np.mean(each, 0)
            for node, each in zip(convs, zip(*means, strict=True), strict=True)}  # fmt: skip


PER_TENSOR = QdqScheme(per_channel=False)
# Every activation and every form is quick once; what is left of the pairs is slow.
QUICK_PAIRS = [("LeakyReLU(0.1)", U8S8), ("SiLU", PER_TENSOR), ("ReLU", S8S8)]
PAIRS = [pytest.param(activation, form, id=f"{activation}-{name}",
                      marks=[] if (activation, form) in QUICK_PAIRS else [pytest.mark.slow])
         for name, form in (("channel", U8S8), ("tensor", PER_TENSOR), ("float bias", S8S8))
         for activation in ("LeakyReLU(0.1)", "ReLU", "SiLU")]  # fmt: skip


@pytest.mark.parametrize(("activation", "form"), PAIRS)
def test_rounded_weights_shift_no_mean(activation, form, tmp_path):
    """On maps of 2x2 cells too, where a 3x3 kernel sees more border than map."""
    source, quantized, target = (tmp_path / f"{name}.onnx" for name in "fqt")
    write_raw_maps(source, trained_model(tiny_spec(activation=activation)), SIZE)
    quantize(source, quantized, IMAGES, "minmax", form)
    head = set(output_nodes(source))
    assert correct_biases(source, quantized, target, IMAGES) == len(weights_of(source)) - 3
    expected, before, after = (
        channel_means(source, weights_of(path)) for path in (source, quantized, target)
    )
    for name, wanted in expected.items():
        errors = [np.abs(found[name] - wanted).max() for found in (before, after)]
        assert errors[1] <= 0.1 * errors[0] if name not in head else errors == [0, 0]
    changed = [name for name, value in constants(target).items()
               if not np.array_equal(value, constants(quantized)[name])]  # fmt: skip
    assert changed and all("bias" in name and "scale" not in name for name in changed)
    assert onnx.load(target).graph.node == onnx.load(quantized).graph.node


def mean_errors(source: Path, quantized: Path) -> float:
    """Root of the mean square, over all channels, of how far an INT8 file's means are off."""
    found = []
    for path in (source, quantized):
        runs = run_file(path, IMAGES, list(conv_outputs(path).values()))
        found.append(np.mean([np.concatenate([each.mean((0, 2, 3)) for each in run])
                              for run in runs], 0))  # fmt: skip
    return float(np.sqrt(np.square(found[0] - found[1]).mean()))


@pytest.mark.parametrize("activation", ["LeakyReLU(0.1)", "SiLU"])
def test_the_whole_file_comes_nearer(activation, tmp_path):
    source, quantized, target = (tmp_path / f"{name}.onnx" for name in "fqt")
    write_raw_maps(source, trained_model(tiny_spec(activation=activation)), SIZE)
    quantize(source, quantized, IMAGES, "minmax", QdqScheme(per_channel=False))
    correct_biases(source, quantized, target, IMAGES)
    assert mean_errors(source, target) < 0.7 * mean_errors(source, quantized)


def test_two_runs_give_the_same_bytes_and_may_write_over_the_file(tmp_path):
    source, quantized, target = (tmp_path / f"{name}.onnx" for name in "fqt")
    write_raw_maps(source, trained_model(tiny_spec()), SIZE)
    quantize(source, quantized, IMAGES, "minmax")
    correct_biases(source, quantized, target, IMAGES)
    correct_biases(source, quantized, quantized, IMAGES)
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
@torch.no_grad()
def test_weights_that_rounding_leaves_alone_change_no_bias(per_channel, tmp_path):
    source, quantized, target = (tmp_path / f"{name}.onnx" for name in "fqt")
    detector = to_deploy(trained_model(tiny_spec()))
    for conv in detector.modules():
        if isinstance(conv, torch.nn.Conv2d):  # steps of 1/256, 127 of them at most
            conv.weight.copy_((conv.weight * 256).round().clamp(-127, 127) / 256)
            conv.weight[:, 0, 0, 0] = 127 / 256
    write_raw_maps(source, detector, SIZE)
    quantize(source, quantized, IMAGES, "minmax", QdqScheme(per_channel=per_channel))
    assert correct_biases(source, quantized, target, IMAGES) > 10
    assert target.read_bytes() == quantized.read_bytes()


@pytest.mark.parametrize("form", [U8S8, S8S8], ids=["int32", "float"])
def test_a_bias_that_another_shares_is_corrected_alone(form, tmp_path):
    """Fresh networks have equal biases, which become one in the file."""
    source, quantized, target = (tmp_path / f"{name}.onnx" for name in "fqt")
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(3, 3, 1, 1)) for _ in range(3)]
    save_convolutions(source, weights, [np.array([0.5, 0, -0.5])], SIZE)
    quantize(source, quantized, IMAGES, "minmax", form)
    assert correct_biases(source, quantized, target, IMAGES) == 2
    expected, after = (channel_means(source, weights_of(path)) for path in (source, target))
    for name, wanted in expected.items():
        np.testing.assert_allclose(after[name], wanted, atol=1e-3)
    np.testing.assert_array_equal(weights_of(target)["conv2"][1], weights_of(quantized)["conv2"][1])
    onnx.checker.check_model(onnx.load(target), full_check=True)


def test_a_convolution_without_bias_is_left_alone(tmp_path):
    source, quantized, target = (tmp_path / f"{name}.onnx" for name in "fqt")
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(3, 3, 1, 1)) for _ in range(2)]
    save_convolutions(source, weights, [np.ones(3)] * 2, SIZE)
    model = onnx.load(source)
    del model.graph.node[0].input[2], model.graph.initializer[2]
    onnx.save(model, source)
    quantize(source, quantized, IMAGES, "minmax")
    assert correct_biases(source, quantized, target, IMAGES) == 0
    assert target.read_bytes() == quantized.read_bytes()
