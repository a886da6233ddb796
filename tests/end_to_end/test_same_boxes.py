"""One real image through every installed runtime: the same boxes."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.agreement import Agreement
from experiments.same_boxes import VERIFIED, found_by, is_close
from tests.end_to_end.test_quantized_presets import installed
from tests.house.source_tree import ROOT
from utils.strict_yaml import read_yaml, write_yaml
from utils.structures import Detections

IMAGE = "000000000094.jpg"
CALIBRATED_ON = 24


@pytest.mark.slow
def test_the_same_image_has_the_same_boxes_in_every_runtime(shared, tmp_path):
    for module in ("openvino", "ncnn", "pnnx"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    for preset in ("openvino-int8", "rknn"):
        installed(preset)
    images = sorted((shared / "data" / "coco128" / "images" / "train2017").glob("*.jpg"))
    (tmp_path / "some.txt").write_text("\n".join(map(str, images[:CALIBRATED_ON])))
    names = read_yaml(ROOT / "data" / "datasets" / "coco128.yaml")["names"]
    data = {"path": str(tmp_path), "train": "some.txt", "val": "some.txt", "names": names}
    write_yaml(tmp_path / "some.yaml", data)
    image = next(path for path in images if path.name == IMAGE)

    weights = shared / "weights" / "yolov5n.pt"
    found = found_by(weights, tmp_path / "some.yaml", image, 640, tmp_path)

    assert len(found["PyTorch"]) == 3
    for preset in VERIFIED:
        agreement = Agreement.of(found["PyTorch"], found[preset])
        assert is_close(agreement, preset), (preset, agreement)


def detections(boxes: list[list[float]], scores: list[float]) -> Detections:
    return Detections(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array(scores, np.float32),
        class_ids=np.zeros(len(scores), np.int64),
    )


@pytest.mark.parametrize(
    ("boxes", "scores", "close"),
    [
        ([[0, 0, 10, 10]], [0.9], True),
        ([[0, 0, 10, 10]], [0.86], True),
        ([[0, 0, 10, 10]], [0.8], False),  # another score
        ([[0, 0, 10, 8]], [0.9], False),  # another box
        ([], [], False),  # none
        ([[0, 0, 10, 10], [50, 50, 60, 60]], [0.9, 0.28], True),  # one more, at the threshold
        ([[0, 0, 10, 10], [50, 50, 60, 60]], [0.9, 0.5], False),  # one more
    ],
)
def test_agreement(boxes, scores, close):
    reference = detections([[0, 0, 10, 10]], [0.9])
    assert is_close(Agreement.of(reference, detections(boxes, scores)), "rknn") is close
    assert is_close(Agreement.of(reference, reference), "onnx")
