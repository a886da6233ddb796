"""TorchScript files that YOLOv5 and ultralytics write of their own networks are read here.

They are written where those packages are installed, which means an environment of its own.
"""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch

from models.runtimes.open_runner import open_runner
from tests.checkpoint_builders import CLASS_NAMES
from tests.model_builders import tiny_yaml
from utils.errors import CheckpointError

# Warnings are the programs' own.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
HW = (64, 96)
OUR_KEYS = ("activation", "rep_block")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(1, 3, *HW, generator=torch.manual_seed(0))


def test_yolov5s_traced_program(images, tmp_path):
    pytest.importorskip("yolov5", reason="yolov5 is not installed")
    content = {key: value for key, value in tiny_yaml().items() if key not in OUR_KEYS}
    model = importlib.import_module("yolov5.models.yolo").DetectionModel(content, nc=3).eval()
    model.names = dict(enumerate(CLASS_NAMES))
    model.model[-1].export, model.model[-1].inplace = True, False
    with torch.no_grad():
        (expected,) = model(images)
    write = importlib.import_module("yolov5.export").export_torchscript
    write(model, images, tmp_path / "y.pt", False)
    runner = open_runner(str(tmp_path / "y.torchscript"), device="cpu")
    assert (runner.input_hw, runner.batch_size, runner.stride) == (HW, 1, 32)
    assert runner.class_names == CLASS_NAMES
    np.testing.assert_allclose(runner.run(images.numpy()), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(CheckpointError, match=r"y\.torchscript: does not run on images \[1, 3, 96"):
        runner.run(np.zeros((1, 3, 96, 96), np.float32))


def test_ultralytics_traced_program(images, tmp_path, monkeypatch):
    pytest.importorskip("ultralytics", reason="ultralytics is not installed")
    monkeypatch.chdir(tmp_path)  # it writes there
    model = importlib.import_module("ultralytics").YOLO("yolov8n.yaml")
    path = model.export(format="torchscript", imgsz=list(HW), device="cpu")
    runner = open_runner(str(path), device="cpu")
    assert (runner.input_hw, runner.batch_size, runner.stride) == (HW, 1, 32)
    assert len(runner.class_names) == 80
    with torch.no_grad():
        (expected,) = torch.jit.load(path)(images).numpy()  # (4 + C, N)
    (found,) = runner.run(images.numpy())
    np.testing.assert_allclose(found[:, :4], expected[:4].T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[:, 4:5] * found[:, 5:], expected[4:].T, atol=1e-5)
