"""The file for OpenCV's DNN module, in old and new versions of OpenCV.

Versions other than the installed one run where OPENCV_PYTHONS names interpreters that have them,
separated by colons.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

import export
from models.runtimes.open_runner import open_runner
from tests.checkpoint_builders import save_model
from tests.model_builders import finding_model, tiny_spec

HW = (64, 96)
INTERPRETERS = [path for path in os.environ.get("OPENCV_PYTHONS", "").split(":") if path]
RUN = """
import sys, cv2, numpy
network = cv2.dnn.readNetFromONNX(sys.argv[1])
network.setInput(numpy.load(sys.argv[2]))
numpy.save(sys.argv[3], network.forward())
print(cv2.__version__)
"""


def write(folder: Path, batch_size: int = 1) -> Path:
    weights = save_model(folder / "w.pt", finding_model(tiny_spec()))
    export.export(export.ExportConfig(
        str(weights), preset=("opencv4",), imgsz=HW, batch_size=batch_size
    ))  # fmt: skip
    return folder / "w-opencv4.onnx"


@pytest.mark.parametrize("batch_size", [1, 2])
def test_tensors_of_five_dimensions_meet_others_of_their_size_or_numbers(batch_size, tmp_path):
    """OpenCV up to 4.6 does not broadcast them."""
    model = onnx.shape_inference.infer_shapes(onnx.load(str(write(tmp_path, batch_size))))
    shapes = {each.name: tuple(d.dim_value for d in each.type.tensor_type.shape.dim)
              for each in model.graph.value_info}  # fmt: skip
    shapes |= {each.name: tuple(each.dims) for each in model.graph.initializer}
    pairs = [[shapes[name] for name in node.input] for node in model.graph.node
             if node.op_type in ("Add", "Mul", "Sub", "Div", "Pow")]  # fmt: skip
    large = [pair for pair in pairs if max(len(shape) for shape in pair) == 5]
    assert len(large) > 6
    for pair in large:
        assert len({shape for shape in pair if np.prod(shape) > 1}) == 1, pair


@pytest.mark.slow
@pytest.mark.skipif(not INTERPRETERS, reason="OPENCV_PYTHONS names no interpreters")
@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("python", INTERPRETERS)
def test_other_versions_find_the_same_boxes(python, batch_size, tmp_path):
    path = write(tmp_path, batch_size)
    images = np.random.default_rng(0).random((batch_size, 3, *HW), np.float32)
    np.save(tmp_path / "images.npy", images)
    command = [python, "-c", RUN, path, tmp_path / "images.npy", tmp_path / "found.npy"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    if batch_size > 1 and re.search(r"OpenCV\(4\.[0-6]\.", done.stderr):
        return  # it stops instead of finding other boxes
    assert done.returncode == 0, done.stderr
    expected = open_runner(str(path), device="cpu").run(images)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, rtol=1e-3, atol=1e-3)
