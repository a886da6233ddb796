"""Programs that others wrote read the preset `ultralytics` and `convert.py --to yolov5`.

`make clients` runs ultralytics and SAHI in an environment of its own, since their licences and
requirements are not ours; `yolov5` runs where it is installed. None of them needs a network.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import convert
import detect
import export
from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.conversion.deploy import relative_error, to_deploy
from tests.checkpoint_builders import save_model
from tests.model_builders import finding_model, tiny_spec, trained_model
from utils.detect.tiles import Seen, merge_detections
from utils.postprocess import PostprocessConfig
from utils.structures import Detections

pytestmark = pytest.mark.slow

FIND = """
import json, sys
from ultralytics import YOLO
model = YOLO(sys.argv[1])
for path in sys.argv[3:]:
    found = model.predict(path, imgsz=int(sys.argv[2]), conf=0.25, iou=0.45, device="cpu",
                          verbose=False)[0]
    print("BOXES", json.dumps([found.boxes.data.tolist(), found.names]))
"""
FIND_WITH_SAHI = """
import json, sys
from sahi import AutoDetectionModel
from sahi.predict import get_prediction
model = AutoDetectionModel.from_pretrained(
    model_type="ultralytics", model_path=sys.argv[1], confidence_threshold=0.25, device="cpu",
    image_size=int(sys.argv[2]))
for path in sys.argv[3:]:
    found = get_prediction(path, model, verbose=0).object_prediction_list
    rows = [[*map(float, each.bbox.to_xyxy()), float(each.score.value), each.category.id]
            for each in found]
    names = {each.category.id: each.category.name for each in found}
    print("BOXES", json.dumps([rows, names]))
"""
MERGE_WITH_SAHI = """
import json, sys
from sahi.postprocess.combine import GreedyNMMPostprocess, NMSPostprocess
from sahi.prediction import ObjectPrediction
for line in open(sys.argv[1]):
    rows, merge, agnostic = json.loads(line)
    objects = [ObjectPrediction(bbox=row[:4], score=row[4], category_id=row[5], category_name="x",
                                full_shape=[1000, 1000]) for row in rows]
    kind, metric = {"nmm": (GreedyNMMPostprocess, "IOS"), "nms": (NMSPostprocess, "IOU")}[merge]
    merged = kind(match_threshold=0.5, match_metric=metric, class_agnostic=agnostic)(objects)
    print("BOXES", json.dumps([[*map(float, each.bbox.to_xyxy()), float(each.score.value),
                                each.category.id] for each in merged]))
"""
RAW_MAPS = """
import sys
import numpy as np, torch
from yolov5.models.yolo import DetectionModel
saved = torch.load(sys.argv[1], weights_only=True)
model = DetectionModel(saved["yaml"])
model.load_state_dict(saved["state_dict"])
model.names = dict(enumerate(saved["names"]))
torch.save({"model": model, "ema": None}, sys.argv[3])
model = torch.load(sys.argv[3], weights_only=False)["model"].float().eval()
decoded, maps = model.fuse()(torch.from_numpy(np.load(sys.argv[2])))
np.savez(sys.argv[4], decoded.detach().numpy(), *[each.detach().numpy() for each in maps])
"""


def run(program: str, package: str, *arguments: object, folder: Path) -> str:
    """What a program prints, in a process of its own."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=folder,
        env={
            **os.environ,
            "YOLO_CONFIG_DIR": str(folder),
            "YOLO_OFFLINE": "true",
            "YOLO_AUTOINSTALL": "false",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def trained(shared, tmp_path) -> tuple[Path, int, list[Path]]:
    """YOLOv5n, an image size, and six photos of several sizes in a folder of their own."""
    folder = tmp_path / "images"
    folder.mkdir()
    for path in sorted((shared / "data" / "coco128").rglob("*.jpg"))[:6]:
        (folder / path.name).write_bytes(path.read_bytes())
    return shared / "weights" / "yolov5n.pt", 320, sorted(folder.iterdir())


@pytest.fixture
def tiny(tmp_path) -> tuple[Path, int, list[Path]]:
    """A network that finds something anywhere, and noise: every clone has these."""
    weights = save_model(tmp_path / "tiny.pt", finding_model(tiny_spec()))
    image = tmp_path / "images" / "noise.png"
    image.parent.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    assert cv2.imwrite(str(image), pixels)
    return weights, 96, [image]


def ours(
    weights: Path, size: int, iou: float, images: list[Path], project: Path
) -> list[np.ndarray]:
    """(K, 6) rows of box, score and class of each image."""
    flags = ["--weights", weights, "--source", images[0].parent, "--imgsz", size, size,
             "--max-det", 300, "--iou-thres", iou, "--save-json", "--nosave", "--project", project,
             "--device", "cpu"]  # fmt: skip
    assert detect.main([str(word) for word in flags]) == 0
    frames = json.loads((project / "exp" / "predictions.json").read_text())
    return [
        np.array([[*d["box"], d["score"], d["class_id"]] for d in frame["detections"]]).reshape(
            -1, 6
        )
        for frame in frames
    ]


@pytest.mark.parametrize("network", ["trained", "tiny"])
@pytest.mark.parametrize(
    ("package", "program", "iou"),
    [("ultralytics", FIND, 0.45), ("sahi", FIND_WITH_SAHI, 0.7)],  # SAHI offers no other
    ids=["ultralytics", "sahi"],
)
def test_the_same_boxes_are_found(package, program, iou, network, request, tmp_path):
    weights, size, images = request.getfixturevalue(network)
    flags = ["--weights", weights, "--preset", "ultralytics", "--imgsz", size, "--output", tmp_path]
    assert export.main([str(word) for word in flags]) == 0
    file = tmp_path / f"{weights.stem}-ultralytics.onnx"
    printed = run(program, package, file, size, *images, folder=tmp_path)
    answers = [json.loads(line[6:]) for line in printed.splitlines() if line.startswith("BOXES ")]
    expected = ours(file, size, iou, images, tmp_path)
    assert sum(map(len, expected)) >= 10
    names = read_weights(weights).class_names
    for (rows, found_names), boxes in zip(answers, expected, strict=True):
        np.testing.assert_allclose(np.array(rows).reshape(-1, 6), boxes, atol=0.002)
        assert all(names[int(class_id)] == name for class_id, name in found_names.items())


@pytest.mark.parametrize("merge", ["nmm", "nms"], ids=["sahi-nmm", "sahi-nms"])
def test_boxes_of_tiles_are_merged_as_by_sahi(merge, tmp_path):
    """Its GREEDYNMM of IoS 0.5, the default, and its NMS; random boxes, some of them nested."""
    rng = np.random.default_rng(0)
    cases = []
    for number in range(40):
        corners, sizes = rng.uniform(0, 70, (60, 2)), rng.uniform(5, 60, (60, 2))
        boxes = np.concatenate([corners, corners + sizes], axis=1).astype(np.float32)
        scores = rng.permutation(np.linspace(0.2, 0.9, 60)).astype(np.float32)
        class_ids = rng.integers(0, 3, 60)
        rows = [[*box, score, class_id] for box, score, class_id in zip(
            boxes.tolist(), scores.tolist(), class_ids.tolist(), strict=True)]  # fmt: skip
        cases.append((rows, merge, number % 2 == 0))
    file = tmp_path / "cases.jsonl"
    file.write_text("\n".join(map(json.dumps, cases)))
    printed = run(MERGE_WITH_SAHI, "sahi", file, folder=tmp_path)
    answers = [json.loads(line[6:]) for line in printed.splitlines() if line.startswith("BOXES ")]
    counts = []
    for (rows, _, agnostic), theirs in zip(cases, answers, strict=True):
        table = np.array(rows)
        found = Detections(
            table[:, :4].astype(np.float32), table[:, 4].astype(np.float32),
            table[:, 5].astype(np.int64),
        )  # fmt: skip
        rules = PostprocessConfig(iou_threshold=0.5, class_agnostic=agnostic)
        merged = merge_detections([Seen.whole(found)], rules, merge)
        expected = sorted(theirs, key=lambda row: -row[4])
        counts.append(len(merged))
        np.testing.assert_allclose(
            np.column_stack([merged.boxes, merged.scores, merged.class_ids]), expected, atol=1e-4
        )
    assert 1 <= min(counts) < max(counts) < 60  # something was merged in each, and not everything


@pytest.mark.parametrize(
    "changes",
    [
        {"rep_block": None, "activation": "SiLU"},
        {},
        {"rep_block": "QARepVGG", "activation": "ReLU", "channel_multiple": 16},
    ],
    ids=["plain", "RepVGG, LeakyReLU", "multiples of 16"],
)
def test_yolov5_computes_the_same(changes, tmp_path):
    """Its own classes, built, saved and fused by it."""
    model = trained_model(tiny_spec(**changes))
    weights = save_model(tmp_path / "w.pt", to_deploy(model), "deploy")
    assert convert.main(["--weights", str(weights), "--to", "yolov5"]) == 0
    inputs = np.random.default_rng(0).random((1, 3, 64, 96), np.float32)
    np.save(tmp_path / "x.npy", inputs)
    run(RAW_MAPS, "yolov5", tmp_path / "w-yolov5.pt", tmp_path / "x.npy", tmp_path / "full.pt",
        tmp_path / "maps.npz", folder=tmp_path)  # fmt: skip
    _, *maps = np.load(tmp_path / "maps.npz").values()
    theirs = [torch.from_numpy(each.transpose(0, 1, 4, 2, 3)) for each in maps]
    with torch.no_grad():
        mine = model(torch.from_numpy(inputs))
    assert (
        relative_error(mine, [each.reshape(m.shape) for each, m in zip(theirs, mine, strict=True)])
        < 1e-5
    )
    # What it wrote is read as any other of its checkpoints.
    again = build_from_checkpoint(read_weights(tmp_path / "full.pt"))
    with torch.no_grad():
        assert relative_error(mine, again(torch.from_numpy(inputs))) < 1e-5
