"""Float16 on a GPU finds the boxes of float32: checkpoints with --half, and files written so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from data.synthetic.shapes import CLASS_NAMES
from detect import DetectConfig, detect
from export import ExportConfig, export
from tests.checkpoint_builders import checkpoint_of
from tests.gpu.machine import trained
from tests.model_builders import finding_model, tiny_spec
from utils.checkpoint import save_checkpoint
from val import ValConfig, validate

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

SCORE = 0.3
# Nothing is suppressed, so that every box has its counterpart and none hangs on another.
UNSUPPRESSED = {"conf_thres": SCORE, "iou_thres": 1.0, "max_det": 20_000}
SCORE_GAP = 0.03
# Of a box's longer side, and at least one pixel.
EDGE_SHARE, EDGE_PIXELS = 0.02, 1.0


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A network that finds many objects, of several classes."""
    model = finding_model(tiny_spec(nc=len(CLASS_NAMES)))
    path = tmp_path_factory.mktemp("half") / "w.pt"
    save_checkpoint(path, replace(checkpoint_of(model), class_names=CLASS_NAMES))
    return path


@pytest.fixture(scope="module")
def float32(machine, data, weights, tmp_path_factory):
    return found_by_detect(machine, data, weights, tmp_path_factory.mktemp("float32"))


def found_by_detect(machine, data, weights, project, **flags) -> dict[str, np.ndarray]:
    """Per image, (N, 6) rows of xyxy, score and class.

    At 640 px also where the images are smaller: there float16 has steps of half a pixel.
    """
    size = 640 if machine.is_gpu else machine.image_size
    settings = {"device": machine.device, "imgsz": (size,), "save_json": True, "nosave": True}
    detect(DetectConfig(
        weights=str(weights), source=str(data.parent / "images" / "unseen"),
        project=str(project), **{**settings, **UNSUPPRESSED, **flags},
    ))  # fmt: skip
    frames = json.loads((project / "exp" / "predictions.json").read_text())
    return {
        Path(frame["source"]).name: np.array(
            [[*row["box"], row["score"], row["class_id"]] for row in frame["detections"]]
        ).reshape(-1, 6)
        for frame in frames
    }


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Every box that is clearly above the threshold is in both."""
    assert found.keys() == expected.keys()
    assert sum(len(rows) for rows in expected.values()) > 20
    for name in expected:
        assert_contained(found[name], expected[name])
        assert_contained(expected[name], found[name])


def assert_contained(rows: np.ndarray, others: np.ndarray) -> None:
    for row in rows[rows[:, 4] > SCORE + SCORE_GAP]:
        same_class = others[others[:, 5] == row[5]]
        allowed = max(EDGE_PIXELS, EDGE_SHARE * max(row[2] - row[0], row[3] - row[1]))
        distance = np.abs(same_class[:, :4] - row[:4]).max(1)
        gap = np.abs(same_class[:, 4] - row[4])
        assert ((distance <= allowed) & (gap <= SCORE_GAP)).any(), row


def test_detect_half(machine, data, weights, float32, tmp_path):
    found = found_by_detect(machine, data, weights, tmp_path, half=machine.is_gpu)
    assert_same(found, float32)


def found_by_val(machine, data, weights, project, **flags) -> dict[str, np.ndarray]:
    validate(ValConfig(
        weights=str(weights), data=str(data), imgsz=machine.image_size, device=machine.device,
        batch_size=4, workers=0, save_json=True, noplots=True, project=str(project),
        **UNSUPPRESSED, **flags,
    ))  # fmt: skip
    (file,) = (project / "exp").glob("*_predictions.json")
    images: dict[str, list[list[float]]] = {}
    for row in json.loads(file.read_text()):
        x, y, width, height = row["bbox"]
        values = [x, y, x + width, y + height, row["score"], row["category_id"]]
        images.setdefault(str(row["image_id"]), []).append(values)
    return {name: np.array(rows) for name, rows in images.items()}


def test_val_half(machine, data, weights, tmp_path):
    plain = found_by_val(machine, data, weights, tmp_path / "float32")
    half = found_by_val(machine, data, weights, tmp_path / "half", half=machine.is_gpu)
    assert_same(half, plain)


def test_a_float16_file_finds_the_same(machine, data, weights, float32, tmp_path):
    size = 640 if machine.is_gpu else machine.image_size
    file = tmp_path / "w-trt11-fp16.onnx"
    export(ExportConfig(
        weights=str(weights), preset=("trt11-fp16",), imgsz=(size,), output=str(file), workers=0,
    ))  # fmt: skip
    has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    device = "0" if machine.is_gpu and has_cuda else "cpu"
    assert_same(found_by_detect(machine, data, file, tmp_path, device=device), float32)


def test_half_of_a_trained_network_has_the_same_AP(machine, data, tmp_path):
    run = trained(machine, data, tmp_path, epochs=20 if machine.is_gpu else 2)
    results = []
    for half in (False, machine.is_gpu):
        report = tmp_path / f"half_{half}.json"
        validate(ValConfig(
            weights=str(run.last), data=str(data), imgsz=machine.image_size,
            device=machine.device, workers=0, noplots=True, project=str(tmp_path / "val"),
            half=half, report=str(report),
        ))  # fmt: skip
        results.append(json.loads(report.read_text())["AP"])
    assert results[1] == pytest.approx(results[0], abs=0.005)
