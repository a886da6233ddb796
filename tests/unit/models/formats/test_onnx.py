from __future__ import annotations

import json

import numpy as np
import pytest
from onnx import TensorProto, helper

from models.runtimes.onnx_runner import OnnxRunner
from tests.onnx_builders import OUR_METADATA, save_detector, save_graph
from utils.errors import CheckpointError, ConfigError

ROWS = [[8, 8, 4, 4, 0.9, 0.8, 0.1], [20, 20, 6, 6, 0.5, 0.2, 0.7]]


def input_images(*brightest):
    images = np.zeros((len(brightest), 3, 32, 32), np.float32)
    images[:, 0, 3, 5] = brightest
    return images


def expected(*brightest):
    answer = np.repeat(np.array(ROWS, np.float32)[None], len(brightest), 0)
    answer[:, :, 4] *= np.array(brightest, np.float32)[:, None]
    return answer


def test_our_metadata(tmp_path):
    runner = OnnxRunner(save_detector(tmp_path / "x.onnx", ROWS), device="cpu")
    assert runner.class_names == ("cat", "dog")
    assert (runner.stride, runner.input_hw, runner.batch_size) == (32, (None, None), None)
    assert not runner.computes_in_half


def test_yolov5s_metadata(tmp_path):
    metadata = {"names": "{0: 'cat', 1: \"dog's\"}", "stride": "64"}
    runner = OnnxRunner(save_detector(tmp_path / "x.onnx", ROWS, metadata=metadata))
    assert runner.class_names == ("cat", "dog's") and runner.stride == 64


@pytest.mark.parametrize(
    ("names", "class_names"),
    [
        ('["cat", "dog"]', ("cat", "dog")),  # a JSON list
        ('{"0": "cat", "1": "dog"}', ("cat", "dog")),  # a JSON mapping
        ("['cat', 'dog']", ("cat", "dog")),  # a Python list
        ("{1: 'dog'}", ("class 0", "dog")),  # a gap
        (None, ()),  # nothing said
    ],
)
def test_names(tmp_path, names, class_names):
    metadata = {} if names is None else {"names": names}
    path = save_detector(tmp_path / "x.onnx", ROWS, metadata=metadata)
    assert OnnxRunner(path).class_names == class_names


@pytest.mark.parametrize(
    ("key", "text"),
    [("names", "a, b"), ("names", "__import__('os')"), ("stride", '"wide"'), ("stride", "{}")],
)
def test_metadata_that_cannot_be_understood(tmp_path, key, text):
    path = save_detector(tmp_path / "x.onnx", ROWS, metadata={key: text})
    with pytest.raises(
        CheckpointError, match=f"x.onnx: metadata '{key}' is .*cannot be understood"
    ):
        OnnxRunner(path)


def test_run_with_any_batch(tmp_path):
    runner = OnnxRunner(save_detector(tmp_path / "x.onnx", ROWS))
    answer = runner.run(input_images(1, 0, 0.5))
    np.testing.assert_array_equal(answer, expected(1, 0, 0.5))
    assert answer.dtype == np.float32


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_fixed_batches_are_filled_up(tmp_path, count):
    path = save_detector(tmp_path / "x.onnx", ROWS, input_shape=(2, 3, 32, 32))
    runner = OnnxRunner(path)
    assert (runner.batch_size, runner.input_hw) == (2, (32, 32))
    values = np.linspace(0.25, 1, count)
    np.testing.assert_array_equal(runner.run(input_images(*values)), expected(*values))


def test_partly_fixed_size(tmp_path):
    path = save_detector(tmp_path / "x.onnx", ROWS, input_shape=("b", 3, 32, "width"))
    assert OnnxRunner(path).input_hw == (32, None)


def test_half(tmp_path):
    path = save_detector(tmp_path / "x.onnx", ROWS, float_type=TensorProto.FLOAT16)
    runner = OnnxRunner(path)
    answer = runner.run(input_images(1, 0.5))
    assert runner.computes_in_half and answer.dtype == np.float32
    np.testing.assert_allclose(answer, expected(1, 0.5), rtol=1e-3)


def test_raw_heads_are_decoded(tmp_path):
    """Zero logits: sigmoid 1/2 puts each box in the middle of its cell with the anchor's size."""
    names, shapes = ["p3", "p4"], [(1, 14, 4, 4), (1, 14, 2, 2)]
    constants = [
        helper.make_node(
            "Constant",
            [],
            [name],
            value=helper.make_tensor(name, TensorProto.FLOAT, shape, np.zeros(shape).ravel()),
        )
        for name, shape in zip(names, shapes, strict=True)
    ]
    graph = helper.make_graph(
        constants,
        "heads",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 32, 32])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in zip(names, shapes, strict=True)
        ],
    )
    metadata = {
        **OUR_METADATA,
        "head": json.dumps("raw"),
        "stride": "[8, 16]",
        "anchors": "[[[4, 6], [8, 8]], [[12, 10], [20, 24]]]",
    }
    answer = OnnxRunner(save_graph(tmp_path / "x.onnx", graph, metadata)).run(input_images(1))
    assert answer.shape == (1, 2 * 16 + 2 * 4, 7)
    assert answer[0, 0].tolist() == [4, 4, 4, 6, 0.5, 0.5, 0.5]  # anchor 0, first cell
    assert answer[0, 6].tolist() == [20, 12, 4, 6, 0.5, 0.5, 0.5]  # column 2, row 1
    assert answer[0, 16, :4].tolist() == [4, 4, 8, 8]  # anchor 1, first cell
    assert answer[0, -1, :4].tolist() == [24, 24, 20, 24]  # last cell of the coarse level


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone\.onnx: no such file"):
        OnnxRunner(tmp_path / "gone.onnx")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not onnx"])
def test_not_onnx(tmp_path, content):
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.onnx: onnxruntime cannot open it as ONNX"):
        OnnxRunner(tmp_path / "x.onnx")


def test_wrong_input_channels(tmp_path):
    path = save_detector(tmp_path / "x.onnx", ROWS, input_shape=(1, 1, 32, 32))
    with pytest.raises(CheckpointError, match=r"expected one input \(batch, 3, height, width\)"):
        OnnxRunner(path)


def test_wrong_input_rank(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["images"], ["output0"])],
        "flat",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 3])],
    )
    with pytest.raises(CheckpointError, match=r"its inputs are images tensor\(float\) \[1, 3\]"):
        OnnxRunner(save_graph(tmp_path / "x.onnx", graph, OUR_METADATA))


def test_outputs_that_are_no_predictions(tmp_path):
    path = save_detector(tmp_path / "x.onnx", ROWS, metadata={**OUR_METADATA, "head": '"e2e"'})
    with pytest.raises(CheckpointError, match="its head is 'e2e'; expected decoded predictions"):
        OnnxRunner(path)


@pytest.mark.parametrize("device", ["7", "mps", "0,1"])
def test_devices_that_are_not_there(tmp_path, device):
    path = save_detector(tmp_path / "x.onnx", ROWS)
    import onnxruntime

    if device.isdigit() and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(ConfigError, match=f"--device {device}: "):
        OnnxRunner(path, device=device)


def test_threads_do_not_spin_between_images(tmp_path):
    """They would take the cores from decoding and encoding."""
    runner = OnnxRunner(save_detector(tmp_path / "x.onnx", ROWS))
    options = runner._session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
