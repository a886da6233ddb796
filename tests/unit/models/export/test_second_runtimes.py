"""A file that another runtime does not take, or that computes something else there."""

from __future__ import annotations

import numpy as np
import pytest

from models.conversion.deploy import to_deploy
from models.export.exported_file import FileRequest, write_file
from models.export.file_comparison import checked_errors, checked_rounded_errors, errors_of
from models.export.second_runtimes import OpenCvRunner, second_runtimes
from models.export.sizes import Sizes
from models.formats.presets import PRESETS
from tests.model_builders import tiny_spec, trained_model
from utils.errors import CheckFailedError
from utils.postprocess import PostprocessConfig

SIZES = Sizes((64, 64))


@pytest.fixture(scope="module")
def request_for_npu() -> FileRequest:
    detector = to_deploy(trained_model(tiny_spec(), seed=3))
    anchors = [list(level) for level in detector.spec.anchors]
    metadata = {"names": ["a", "b", "c"], "stride": [8, 16, 32], "head": "raw", "anchors": anchors}
    return FileRequest(PRESETS["npu"], detector, SIZES, 12, PostprocessConfig(), metadata)


def test_every_runtime_that_is_here_finds_the_same(request_for_npu, tmp_path):
    pytest.importorskip("openvino")
    written = write_file(tmp_path / "n.onnx", "", request_for_npu)
    assert set(written.others) == {"OpenVINO", "OpenCV"}
    images = [np.random.default_rng(0).random((3, 3, 64, 64), np.float32)]
    for runtime, runner in written.others.items():
        assert runner.class_names == ("a", "b", "c")
        errors = checked_errors(runner, request_for_npu, images, runtime)
        assert 0 < max(errors.values()) < 1e-4


def test_opencv_is_left_out_where_its_4th_version_reads_nothing(request_for_npu, tmp_path):
    path = tmp_path / "n.onnx"
    write_file(path, "", request_for_npu)
    found = second_runtimes(path, PRESETS["npu"], SIZES, 13, request_for_npu.metadata)
    assert "OpenCV" not in found


def test_a_file_that_a_runtime_does_not_take(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no network")
    with pytest.raises(CheckFailedError, match=r"broken\.onnx: Open\w+ does not take it"):
        second_runtimes(path, PRESETS["npu"], SIZES, 12, {})


class Half:
    """A runtime that gets half of everything."""

    def __init__(self, runner: OpenCvRunner) -> None:
        self.runner = runner
        self.class_names, self.stride = runner.class_names, runner.stride
        self.input_hw, self.batch_size = runner.input_hw, runner.batch_size

    def run(self, images):
        return self.runner.run(images) / 2


def test_a_runtime_that_computes_something_else(request_for_npu, tmp_path):
    written = write_file(tmp_path / "n.onnx", "", request_for_npu)
    images = [np.random.default_rng(0).random((1, 3, 64, 64), np.float32)]
    wrong = Half(written.others["OpenCV"])
    with pytest.raises(CheckFailedError, match=r"xy differs from PyTorch by 5\.0e-01 in Odd, more"):
        checked_errors(wrong, request_for_npu, images, "Odd")
    first = errors_of(written.runner, request_for_npu, images)
    with pytest.raises(CheckFailedError, match="in Odd, by"):
        checked_rounded_errors(wrong, request_for_npu, images, "Odd", first)
    checked_rounded_errors(written.runner, request_for_npu, images, "same", first)
