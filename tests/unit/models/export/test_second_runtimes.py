"""A file that another runtime does not take, or that computes something else there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.conversion.deploy import to_deploy
from models.export.column_errors import ColumnErrors
from models.export.exported_file import FileRequest, network_file, write_file
from models.export.parity import (
    check_float_errors,
    check_rounded_errors,
    errors_of,
    second_errors,
    second_runtimes,
    takes,
)
from models.formats import opencv
from models.formats.format import NetworkFile
from models.formats.opencv import OpenCvRunner
from models.formats.presets import FORMATS, PRESETS
from models.runtimes.file_metadata import FileMetadata
from models.runtimes.input_sizes import InputSizes
from tests.model_builders import tiny_spec, trained_model
from utils.errors import CheckFailedError
from utils.postprocess import PostprocessConfig

SIZES = InputSizes((64, 64))


@pytest.fixture(scope="module")
def request_for_npu() -> FileRequest:
    detector = to_deploy(trained_model(tiny_spec(), seed=3))
    anchors, strides = detector.spec.anchors, detector.strides
    metadata = FileMetadata(("a", "b", "c"), strides, anchors, SIZES, "raw", 12)
    return FileRequest(PRESETS["npu"], detector, SIZES, 12, PostprocessConfig(), metadata)


def file_of(preset: str, request: FileRequest, path) -> NetworkFile:
    return replace(network_file(path, request), preset=PRESETS[preset])


def test_every_runtime_that_is_here_finds_the_same(request_for_npu, tmp_path):
    pytest.importorskip("openvino")
    written = write_file(tmp_path / "n.onnx", request_for_npu)
    images = [np.random.default_rng(0).random((3, 3, 64, 64), np.float32)]

    def errors_in(runner, runtime) -> ColumnErrors:
        assert runner.class_names == ("a", "b", "c")
        errors = errors_of(runner, request_for_npu, images)
        check_float_errors(errors, 1e-4, runtime)
        return errors

    found = second_errors(written.onnx, FORMATS, errors_in)
    assert list(found) == ["OpenVINO", "OpenCV"]
    assert all(max(errors.by_name().values()) > 0 for errors in found.values())


@pytest.mark.parametrize(
    ("preset", "changes", "names"),
    [
        ("npu", {}, ["OpenVINO", "OpenCV"]),
        ("npu", {"opset": 13}, ["OpenVINO"]),  # OpenCV 4 reads 12
        ("onnx", {"sizes": InputSizes((64, 64), dynamic=("hw",))}, ["OpenVINO"]),
        ("horizon", {"opset": 11}, ["OpenVINO"]),  # maps (B, H, W, channels)
        ("trt11-fp16", {}, []),
        ("qdq-u8", {}, ["QNN's HTP simulator"]),
        ("trt11-int8", {}, []),  # no zero points
        ("openvino-int8", {}, []),  # no ONNX file
    ],
)
def test_which_runtimes_take_a_file(preset, changes, names, request_for_npu, tmp_path):
    file = replace(file_of(preset, request_for_npu, tmp_path / "n.onnx"), **changes)
    runtimes = [each.second_runtime for each in FORMATS if each.second_runtime is not None]
    assert [runtime.name for runtime in runtimes if takes(runtime, file)] == names


def test_a_runtime_that_is_not_installed_is_skipped(request_for_npu, tmp_path, caplog):
    file = file_of("qdq-u8", request_for_npu, tmp_path / "n.onnx")
    qnn = next(each for each in FORMATS if each.name == "QNN")
    package = replace(qnn.second_runtime.package, module="no_such_package")
    changed = replace(qnn, second_runtime=replace(qnn.second_runtime, package=package))
    with caplog.at_level("INFO"):
        assert second_runtimes(file, [changed]) == []
    assert (
        "no_such_package is not installed: the file of preset qdq-u8 is not compared there"
        in caplog.text
    )


@pytest.mark.parametrize("name", ["OpenVINO", "OpenCV"])
def test_a_file_that_a_runtime_does_not_take(name, request_for_npu, tmp_path):
    if name == "OpenVINO":
        pytest.importorskip("openvino")
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no network")
    file = network_file(path, request_for_npu)
    formats = [each for each in FORMATS if each.name == name]
    with pytest.raises(CheckFailedError, match=rf"broken\.onnx: {name} does not take it"):
        second_errors(file, formats, lambda *_: pytest.fail("it was opened"))


class Half:
    """A runtime that gets half of everything."""

    def __init__(self, runner: OpenCvRunner) -> None:
        self.runner = runner
        self.class_names, self.stride = runner.class_names, runner.stride
        self.input_hw, self.batch_size = runner.input_hw, runner.batch_size

    def run(self, images):
        return self.runner.run(images) / 2


def test_a_runtime_that_computes_something_else(request_for_npu, tmp_path):
    written = write_file(tmp_path / "n.onnx", request_for_npu)
    images = [np.random.default_rng(0).random((1, 3, 64, 64), np.float32)]
    texts = request_for_npu.metadata.as_texts()
    wrong = Half(opencv.OpenCvRunner(tmp_path / "n.onnx", SIZES, texts))
    errors = errors_of(wrong, request_for_npu, images)
    with pytest.raises(CheckFailedError, match=r"xy differs from PyTorch by 5\.0e-01 in Odd, more"):
        check_float_errors(errors, 1e-4, "Odd")
    first = errors_of(written.runner, request_for_npu, images)
    with pytest.raises(CheckFailedError, match="in Odd, by"):
        check_rounded_errors(errors, first, "Odd")
    check_rounded_errors(first, first, "same")
