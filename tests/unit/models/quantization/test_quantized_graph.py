"""The network of an INT8 file computes what onnxruntime computes, before and after training."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from packaging.version import Version

from models.conversion.deploy import to_deploy
from models.export.exported_file import FileRequest, write_file
from models.formats.presets import PRESETS
from models.network.detector import Detector
from models.quantization.bias_correction import correct_biases
from models.quantization.qdq_scheme import QdqScheme
from models.quantization.quantized_graph import QuantizedGraph
from models.quantization.quantized_onnx import WIDENS_SCALES, quantize
from models.runtimes.file_metadata import FileMetadata
from models.runtimes.input_sizes import InputSizes
from tests.model_builders import tiny_spec, trained_model
from tests.quantized_builders import need_wide_scales
from utils.errors import CheckpointError
from utils.postprocess import PostprocessConfig
from utils.structures import FloatArray

SIZE = 64
FORMS = {
    "u8": QdqScheme(),
    "s8": QdqScheme("s8", symmetric=True, rounded_bias=False),
    "s8 with rounded biases": QdqScheme("s8", symmetric=True),
    "per tensor": QdqScheme(per_channel=False),
    "u16": QdqScheme("u16"),
    "7 bits": QdqScheme(reduce_range=True),
}
CASES = [
    ("SiLU", "u8"),
    ("SiLU", "s8"),
    ("SiLU", "s8 with rounded biases"),
    ("SiLU", "per tensor"),
    ("SiLU", "u16"),
    ("SiLU", "7 bits"),
    ("LeakyReLU(0.1)", "u8"),
    ("LeakyReLU(0.1)", "s8"),
    ("ReLU", "u8"),  # onnxruntime leaves the ReLU out: the zero point is the least number
    ("ReLU6", "s8"),  # Clip, whose bounds are constants
    ("Hardswish", "u8"),
]


@dataclasses.dataclass(frozen=True)
class Pair:
    """A float32 file and its INT8 form."""

    source: Path
    quantized: Path

    def graph(self) -> QuantizedGraph:
        return QuantizedGraph.read(self.quantized, self.source)


def sample_images(count: int = 4, seed: int = 0) -> list[FloatArray]:
    rng = np.random.default_rng(seed)
    return [rng.random((1, 3, SIZE, SIZE), np.float32) for _ in range(count)]


def write_pair(folder: Path, activation: str, form: QdqScheme) -> Pair:
    detector = to_deploy(trained_model(tiny_spec(activation=activation), seed=3))
    return write_pair_of(detector, folder, form, opset=14 if activation == "Hardswish" else 13)


def write_pair_of(detector: Detector, folder: Path, form: QdqScheme, opset: int = 13) -> Pair:
    if form.activations == "u16":
        need_wide_scales()
    sizes, anchors = InputSizes((SIZE, SIZE)), detector.spec.anchors
    metadata = FileMetadata(("a", "b", "c"), detector.strides, anchors, sizes, "raw", opset)
    request = FileRequest(PRESETS["qdq-u8"], detector, sizes, opset, PostprocessConfig(), metadata)
    files = Pair(folder / "float32.onnx", folder / "int8.onnx")
    write_file(files.source, request)
    quantize(files.source, files.quantized, sample_images, "minmax", form)
    return files


@pytest.fixture(scope="module")
def pair_of(tmp_path_factory):
    """A pair of files, written once."""
    pairs: dict[tuple[str, str], Pair] = {}

    def find(activation: str = "SiLU", form: str = "u8") -> Pair:
        if (activation, form) not in pairs:
            folder = tmp_path_factory.mktemp("pair")
            pairs[activation, form] = write_pair(folder, activation, FORMS[form])
        return pairs[activation, form]

    return find


def session_of(path: Path) -> onnxruntime.InferenceSession:
    """Node by node as the file says, in float32."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])


def assert_equal_maps(graph: QuantizedGraph, path: Path, images: FloatArray) -> None:
    """All but a few numbers within rounding; those few have crossed to a neighbour on the way."""
    session = session_of(path)
    with torch.no_grad():
        found = graph(torch.from_numpy(images))
    expected = [session.run(None, {"images": one[None]}) for one in images]
    for level, mine in enumerate(found):
        theirs = np.concatenate([each[level] for each in expected])
        off = np.abs(mine.numpy() - theirs) / np.abs(theirs).max()
        assert off.max() < 0.05
        assert np.mean(off > 1e-4) < 0.02


def assert_equal_but_for_rounding_of_biases(path: Path, other: Path) -> None:
    """Older versions of onnxruntime divide biases by their scale in float32."""
    model, again = onnx.load(path), onnx.load(other)
    biases = {each.name: each for each in model.graph.initializer
              if each.data_type == TensorProto.INT32}  # fmt: skip
    for found in changed_tensors(model, again):
        bias = biases[found.name]
        np.testing.assert_allclose(
            numpy_helper.to_array(found), numpy_helper.to_array(bias), rtol=2**-22, atol=1
        )
        found.CopyFrom(bias)
    assert again == model


def disturb(graph: QuantizedGraph) -> None:
    """As training does: all weights, biases and scales, beyond the range that they had."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in graph.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn_like(parameter) * parameter.abs().mean()
        for quantizer in graph.quantizers:
            if quantizer.log_scale.requires_grad:
                quantizer.log_scale += 0.1 * torch.randn_like(quantizer.log_scale)


@pytest.mark.parametrize(("activation", "form"), CASES)
def test_computes_what_onnxruntime_computes(activation, form, pair_of):
    pair = pair_of(activation, form)
    assert_equal_maps(pair.graph(), pair.quantized, np.concatenate(sample_images(3, seed=9)))


@pytest.mark.parametrize(("activation", "form"), CASES)
def test_what_is_not_trained_is_written_back_byte_by_byte(activation, form, pair_of, tmp_path):
    pair = pair_of(activation, form)
    pair.graph().write(tmp_path / "same.onnx")
    if Version(onnxruntime.__version__) < Version(WIDENS_SCALES):
        assert_equal_but_for_rounding_of_biases(pair.quantized, tmp_path / "same.onnx")
    else:
        assert (tmp_path / "same.onnx").read_bytes() == pair.quantized.read_bytes()


@pytest.mark.parametrize(("activation", "form"), CASES)
def test_what_is_trained_is_what_the_written_file_computes(activation, form, pair_of, tmp_path):
    pair = pair_of(activation, form)
    graph, written = pair.graph(), tmp_path / "trained.onnx"
    disturb(graph)
    graph.write(written)

    assert_equal_maps(graph, written, sample_images(1, seed=9)[0])
    before, after = onnx.load(pair.quantized), onnx.load(written)
    changed = {each.name for each in changed_tensors(before, after)}
    assert any(name.endswith("weight_quantized") for name in changed)
    assert any("bias" in name for name in changed)
    assert "images_scale" not in changed  # pixels are multiples of it
    for model in (before, after):
        del model.graph.initializer[:]
    assert before == after


def changed_tensors(before: onnx.ModelProto, after: onnx.ModelProto) -> Iterator[TensorProto]:
    """Those with other numbers; names, types, sizes and zero points must be the same."""
    for old, new in zip(before.graph.initializer, after.graph.initializer, strict=True):
        assert (old.name, old.data_type, old.dims) == (new.name, new.data_type, new.dims)
        if not np.array_equal(numpy_helper.to_array(old), numpy_helper.to_array(new)):
            assert "zero_point" not in old.name
            yield new


def test_weights_keep_to_the_symmetric_range(pair_of, tmp_path):
    graph = pair_of().graph()
    with torch.no_grad():
        for number in graph.numbers:
            if number.requires_grad:
                number *= 3
    graph.write(tmp_path / "w.onnx")
    weights = [
        numpy_helper.to_array(each)
        for each in onnx.load(tmp_path / "w.onnx").graph.initializer
        if each.name.endswith("weight_quantized")
    ]
    assert weights
    assert min(each.min() for each in weights) == -127
    assert max(each.max() for each in weights) == 127


def test_every_trained_number_has_a_gradient(pair_of):
    graph = pair_of("LeakyReLU(0.1)").graph()
    sum(level.square().mean() for level in graph(torch.from_numpy(sample_images()[0]))).backward()
    for number in graph.numbers:
        assert (number.grad is not None) == number.requires_grad
    assert all(torch.isfinite(p.grad).all() for p in graph.parameters() if p.grad is not None)
    moved = [
        quantizer.log_scale.grad
        for quantizer in graph.quantizers
        if quantizer.log_scale.requires_grad
    ]
    assert sum(bool((each != 0).any()) for each in moved) > 0.9 * len(moved)


def changed_node(pair: Pair, operator: str, folder: Path, **changes) -> Path:
    """The INT8 file with the first node of a kind changed."""
    model = onnx.load(pair.quantized)
    node = next(node for node in model.graph.node if node.op_type == operator)
    node.op_type = changes.pop("op_type", operator)
    for name, value in changes.items():
        kept = [each for each in node.attribute if each.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])
    onnx.save(model, folder / "changed.onnx")
    return folder / "changed.onnx"


@pytest.mark.parametrize(
    ("operator", "changes", "message"),
    [
        ("Sigmoid", {"op_type": "Tanh"}, r"Tanh /.*: operator Tanh is not one of Add, Clip, "),
        ("Resize", {"mode": "linear"}, r"Resize /.*: mode linear \(asymmetric, floor\) is not"),
        ("Conv", {"auto_pad": "SAME_UPPER"}, r"Conv /.*: auto_pad SAME_UPPER is not NOTSET"),
    ],
)
def test_what_torch_cannot_stand_in_for_is_refused(operator, changes, message, pair_of, tmp_path):
    pair = pair_of()
    path = changed_node(pair, operator, tmp_path, **changes)
    with pytest.raises(CheckpointError, match=rf"changed.onnx: {message}.*; it cannot be trained"):
        QuantizedGraph.read(path, pair.source)


def test_the_float_file_must_be_the_one_it_was_made_from(pair_of, tmp_path):
    pair, model = pair_of(), onnx.load(pair_of().source)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.ndim == 4:
            tensor.CopyFrom(numpy_helper.from_array(array * np.float32(1.1), tensor.name))
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(
        CheckpointError,
        match=r"int8.onnx: Conv /layers.0/conv/Conv: has other numbers in the float32 file; give",
    ):
        QuantizedGraph.read(pair.quantized, tmp_path / "other.onnx")
    for node in model.graph.node:
        node.name = ""
    onnx.save(model, tmp_path / "nameless.onnx")
    with pytest.raises(CheckpointError, match="the float32 file has no such convolution"):
        QuantizedGraph.read(pair.quantized, tmp_path / "nameless.onnx")


def test_a_pair_that_does_more_than_round_is_refused(pair_of, tmp_path):
    """Two scales: a QuantizeLinear that another's DequantizeLinear reads."""
    pair, model = pair_of(), onnx.load(pair_of().quantized)
    written = {out: node for node in model.graph.node for out in node.output}
    reader = next(
        node
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
        and written.get(node.input[0]) is not None
        and node.input[1] != "images_scale"
    )
    reader.input[1] = "images_scale"
    onnx.save(model, tmp_path / "wrong.onnx")
    with pytest.raises(CheckpointError, match=r"is followed by .*, not by its inverse"):
        QuantizedGraph.read(tmp_path / "wrong.onnx", pair.source)


def test_a_weight_that_is_computed_is_refused(pair_of, tmp_path):
    pair, model = pair_of(), onnx.load(pair_of().quantized)
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    conv.input[1] = "images"
    onnx.save(model, tmp_path / "wrong.onnx")
    with pytest.raises(CheckpointError, match="images is computed, expected numbers"):
        QuantizedGraph.read(tmp_path / "wrong.onnx", pair.source)


def test_any_number_of_images_and_a_copy(pair_of):
    """The file says 1; each image's answer is its own."""
    graph, images = (
        pair_of("LeakyReLU(0.1)").graph(),
        torch.from_numpy(np.concatenate(sample_images(3))),
    )
    twin = copy.deepcopy(graph)
    with torch.no_grad():
        for together, alone in zip(graph(images), twin(images[1:2]), strict=True):
            assert together.shape[0] == 3
            off = (together[1:2] - alone).abs() / alone.abs().max()
            assert (off > 1e-4).float().mean() < 0.02


@pytest.mark.parametrize("form", ["u8", "s8", "per tensor"])
def test_a_file_with_corrected_biases_is_read_as_it_is(form, pair_of, tmp_path):
    pair, corrected = pair_of("SiLU", form), tmp_path / "corrected.onnx"
    assert correct_biases(pair.source, pair.quantized, corrected, sample_images) > 5
    graph = QuantizedGraph.read(corrected, pair.source)
    assert_equal_maps(graph, corrected, np.concatenate(sample_images(3, seed=9)))
    graph.write(tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == corrected.read_bytes()
