"""Networks of four levels in all scripts: sizes are multiples of 64, maps are named by level."""

from __future__ import annotations

import json

import onnx
import pytest

import convert
import detect
import export
import train
import val
from data.synthetic.dataset import SyntheticConfig, write_dataset
from models.network.model_spec import ModelSpec
from utils.strict_yaml import write_yaml

QUICK = ("--workers", 0, "--device", "cpu")
# yaml -> largest stride, names of the maps
NETWORKS = {"yolov5n6": (64, ["p3", "p4", "p5", "p6"]), "yolov5-p2": (32, ["p2", "p3", "p4", "p5"])}


def run(script, report, *arguments) -> dict:
    """The report of a script that must end well."""
    assert script.main([str(each) for each in (*arguments, "--report", report)]) == 0
    return json.loads(report.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_four_levels(name, tmp_path):
    stride, maps = NETWORKS[name]
    spec = ModelSpec.from_file(f"{name}.yaml").to_yaml()
    write_yaml(tmp_path / "cfg.yaml", {**spec, "width_multiple": 0.125, "depth_multiple": 0.33,
                                       "rep_block": "RepVGG"})  # fmt: skip
    data = write_dataset(tmp_path / "data", SyntheticConfig(images=16, size=120, seed=0))
    size = -(-120 // stride) * stride
    trained = run(
        train, tmp_path / "train.json", "--data", data, "--cfg", tmp_path / "cfg.yaml",
        "--imgsz", 120, "--epochs", 2, "--batch-size", 8, "--noplots",
        "--project", tmp_path / "runs", *QUICK,
    )  # fmt: skip
    best = trained["weights"]["best"]
    deployed = run(convert, tmp_path / "convert.json", "--weights", best)["output"]
    before, after = (
        run(val, tmp_path / "val.json", "--data", data, "--weights", weights, "--imgsz", 120,
            "--project", tmp_path / "val", *QUICK)
        for weights in (best, deployed)
    )  # fmt: skip
    assert before["instances"] == after["instances"] > 0
    assert before["AP"] == pytest.approx(after["AP"], abs=2e-3)

    files = run(
        export, tmp_path / "export.json", "--weights", deployed, "--preset", "npu", "--preset",
        "onnx", "--imgsz", 120, "--output", tmp_path / "files",
    )["files"]  # fmt: skip
    for file in files:
        graph = onnx.load(file["path"]).graph
        shape = [each.dim_value for each in graph.input[0].type.tensor_type.shape.dim]
        assert shape == [1, 3, size, size]
        names = [each.name for each in graph.output]
        assert names == (maps if file["preset"] == "npu" else ["output0"])
        images = data.parent / "images"
        found = run(detect, tmp_path / "detect.json", "--weights", file["path"], "--source",
                    next(each for each in images.rglob("*") if each.is_file()),
                    "--conf-thres", 0.001, "--project", tmp_path / "detect")  # fmt: skip
        assert found["frames"] == 1
        assert found["detections"] > 0
