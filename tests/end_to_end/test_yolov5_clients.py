"""Programs that nobody here wrote find in our files the boxes that we find.

They are run where they are installed (PyPI: yolov5, sahi, supervision, ultralytics), which for
most of them means an environment of their own.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

import export
from models.runtimes.open_runner import open_runner
from tests.checkpoint_builders import CLASS_NAMES, save_model
from tests.model_builders import finding_model, tiny_spec
from utils.postprocess import PostprocessConfig, postprocess
from utils.structures import Detections

# Warnings are the clients' own.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SIZE = 96
FILES = {"onnx": "w.onnx", "torchscript": "w.torchscript", "openvino": "w_openvino_model"}
# yolov5 7.0.14 imports openvino.runtime, which OpenVINO dropped in 2026.
FOR_YOLOV5 = ["onnx", "torchscript"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clients")
    weights = save_model(folder / "w.pt", finding_model(tiny_spec()))
    presets = tuple(FILES)
    export.export(export.ExportConfig(str(weights), preset=presets, imgsz=(SIZE,)))
    return folder


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """An image (H, W, 3) of the network's size, so that nothing is resized."""
    return np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def client(name: str):
    """The package, or a skip where it is not installed."""
    pytest.importorskip(name, reason=f"{name} is not installed")
    return importlib.import_module(name)


def network_input(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32) / 255


def our_boxes(path: Path, pixels: np.ndarray) -> Detections:
    decoded = open_runner(str(path), device="cpu").run(network_input(pixels))
    found = postprocess(decoded[0], PostprocessConfig(0.25, 0.45, 300))
    assert len(found) > 5
    return found


def assert_same(found: np.ndarray, expected: Detections) -> None:
    """(N, 6) rows of corners, score and class id; clients clip boxes to the image, as we do."""
    assert len(found) == len(expected)
    found = found[np.argsort(-found[:, 4], kind="stable")]
    np.testing.assert_allclose(found[:, :4], np.clip(expected.boxes, 0, SIZE), atol=1e-2)
    np.testing.assert_allclose(found[:, 4], expected.scores, atol=1e-4)
    assert found[:, 5].astype(int).tolist() == expected.class_ids.tolist()


@pytest.mark.parametrize("name", FOR_YOLOV5)
def test_yolov5_finds_the_same_boxes(name, folder, pixels):
    path = folder / FILES[name]
    model = client("yolov5").load(str(path), device="cpu")
    assert model.names == dict(enumerate(CLASS_NAMES)) and model.stride == 32
    model.conf, model.iou, model.max_det = 0.25, 0.45, 300
    assert_same(model(pixels, size=SIZE).xyxy[0].numpy(), our_boxes(path, pixels))


@pytest.mark.parametrize("name", ["w.yaml", "metadata.yaml"])
def test_yolov5_reads_the_sidecar_of_an_openvino_folder(name, folder):
    client("yolov5")
    common = importlib.import_module("yolov5.models.common")
    found = common.DetectMultiBackend._load_metadata(folder / FILES["openvino"] / name)
    assert found == (32, dict(enumerate(CLASS_NAMES)))


@pytest.mark.parametrize("name", FOR_YOLOV5)
def test_supervision_takes_what_yolov5_found(name, folder, pixels):
    path, supervision = folder / FILES[name], client("supervision")
    model = client("yolov5").load(str(path), device="cpu")
    model.conf, model.iou, model.max_det = 0.25, 0.45, 300
    found = supervision.Detections.from_yolov5(model(pixels, size=SIZE))
    rows = np.column_stack([found.xyxy, found.confidence, found.class_id])
    assert_same(rows, our_boxes(path, pixels))


@pytest.mark.parametrize("name", FOR_YOLOV5)
def test_sahi_finds_the_same_boxes(name, folder, pixels):
    path = folder / FILES[name]
    client("yolov5")
    client("sahi")
    models = importlib.import_module("sahi.models.yolov5")
    model = models.Yolov5DetectionModel(
        model_path=str(path), confidence_threshold=0.25, device="cpu", image_size=SIZE
    )
    predict = importlib.import_module("sahi.predict").get_prediction
    objects = predict(pixels, model).object_prediction_list
    rows = [[*each.bbox.to_xyxy(), each.score.value, each.category.id] for each in objects]
    assert {each.category.name for each in objects} <= set(CLASS_NAMES)
    assert_same(np.array(rows), our_boxes(path, pixels))


@pytest.mark.parametrize("name", FILES)
def test_ultralytics_loads_the_file_and_gets_the_same_numbers(name, folder, pixels):
    """Its postprocessing is for other heads; what it reads and what the network answers is not."""
    path = folder / FILES[name]
    if name == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed")
    client("ultralytics")
    backend = importlib.import_module("ultralytics.nn.autobackend").AutoBackend
    model = backend(str(path), device=torch.device("cpu"))
    assert model.names == dict(enumerate(CLASS_NAMES))
    assert (int(model.stride), list(model.imgsz), int(model.batch)) == (32, [SIZE, SIZE], 1)
    answer = model(torch.from_numpy(network_input(pixels)))
    answer = answer[0] if isinstance(answer, list | tuple) else answer
    expected = open_runner(str(path), device="cpu").run(network_input(pixels))
    # OpenVINO computes in bfloat16 there where the CPU has it.
    tolerance = {"atol": 3.0} if name == "openvino" else {"atol": 1e-3, "rtol": 1e-4}
    np.testing.assert_allclose(np.asarray(answer), expected, **tolerance)
