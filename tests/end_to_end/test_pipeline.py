"""Train, validate, convert, export and detect on drawn images, as a user would."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import convert
import detect
import export
import train
import val
from data.synthetic.dataset import SyntheticConfig, write_dataset
from data.synthetic.shapes import CLASS_NAMES
from models.checkpoints.loading import build_from_checkpoint
from models.network.detector import network_gflops
from tests.checkpoint_builders import CLASS_NAMES as TINY_CLASSES
from tests.checkpoint_builders import save_model
from tests.model_builders import tiny_spec, trained_model, write_small_yolov5
from utils.checkpoint import load_checkpoint
from utils.engine.epoch_row import COLUMNS
from utils.strict_yaml import write_yaml

SIZE, EPOCHS = 96, 2
QUICK = ["--workers", 0, "--device", "cpu"]
VAL_KEYS = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100",
    "precision", "recall", "images", "instances", "per_class", "ms_per_image",
)  # fmt: skip


def run(script, report: Path, *arguments) -> dict:
    """The report of a script that must end well."""
    assert script.main([str(word) for word in (*arguments, "--report", report)]) == 0
    return json.loads(report.read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("pipeline")


@pytest.fixture(scope="module")
def data(folder) -> Path:
    return write_dataset(folder / "data", SyntheticConfig(images=24, size=SIZE, seed=0))


@pytest.fixture(scope="module")
def trained(folder, data) -> dict:
    """The report of a short training run."""
    cfg = write_small_yolov5(folder / "small.yaml")
    return run(
        train, folder / "train.json",
        "--data", data, "--cfg", cfg, "--imgsz", SIZE, "--epochs", EPOCHS, "--batch-size", 8,
        "--project", folder / "runs", *QUICK,
    )  # fmt: skip


@pytest.fixture(scope="module")
def best(trained) -> Path:
    return Path(trained["weights"]["best"])


@pytest.fixture(scope="module")
def deployed(folder, best) -> tuple[Path, dict]:
    """The deploy form, and the report of its conversion."""
    report = run(convert, folder / "convert.json", "--weights", best)
    return Path(report["output"]), report


@pytest.fixture(scope="module")
def onnx_file(folder, best) -> tuple[Path, dict]:
    """A file of fixed size, and its entry in the report."""
    output = folder / "static" / "best.onnx"
    arguments = ("--weights", best, "--imgsz", SIZE, "--output", output)
    entry = run(export, folder / "export.json", *arguments)["files"][0]
    return output, entry


@pytest.fixture(scope="module")
def tiny(folder) -> Path:
    """Weights of few layers, for what does not depend on them."""
    return save_model(folder / "tiny.pt", trained_model(tiny_spec()))


def validate(tmp_path, data, weights, *arguments) -> tuple[dict, list]:
    """The report of val.py, and its detections as COCO results."""
    report = run(
        val, tmp_path / "val.json", "--data", data, "--weights", weights, "--imgsz", SIZE,
        "--project", tmp_path / "val", "--exist-ok", "--save-json", *QUICK, *arguments,
    )  # fmt: skip
    results = tmp_path / "val" / "exp" / f"{Path(weights).stem}_predictions.json"
    return report, json.loads(results.read_text())


def _rounded(row: dict, pixels: float) -> tuple:
    return (row["image_id"], row["category_id"], *(round(v / pixels) for v in row["bbox"]))


def assert_same_detections(found: list, expected: list, pixels: float) -> None:
    """Equal classes and boxes for all but near-ties, whose order rounding decides."""
    assert len(expected) > 100
    assert len(found) == len(expected)
    rows = [{_rounded(row, pixels) for row in results} for results in (found, expected)]
    assert len(rows[0] & rows[1]) > 0.9 * len(rows[1])
    scores = [np.sort([r["score"] for r in results]) for results in (found, expected)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)


def test_what_training_reports(trained):
    assert list(trained) == [
        "epochs", "best_epoch", "AP", "AP50", "precision", "recall", "weights", "seconds",
        "images_per_second", "peak_memory_mb", "skipped_steps",
    ]  # fmt: skip
    assert trained["epochs"] == EPOCHS
    assert 0 <= trained["best_epoch"] < EPOCHS
    assert trained["skipped_steps"] == 0
    assert trained["seconds"] > 0 and trained["images_per_second"] > 0


def test_what_training_leaves(best):
    names = {str(path.relative_to(best.parents[1])) for path in best.parents[1].rglob("*")}
    expected = {
        "weights/best.pt", "weights/last.pt", "results.csv", "results.png", "labels.jpg",
        "train_batch0.jpg", "train_batch1.jpg", "train_batch2.jpg",
        "val_batch0_labels.jpg", "val_batch0_pred.jpg", "PR_curve.png", "F1_curve.png",
        "P_curve.png", "R_curve.png", "confusion_matrix.png", "hyp.yaml", "opt.yaml",
    }  # fmt: skip
    assert expected <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    with (best.parents[1] / "results.csv").open(newline="") as file:
        rows = list(csv.reader(file, skipinitialspace=True))
    assert tuple(rows[0]) == COLUMNS
    assert [row[0] for row in rows[1:]] == ["0", "1"]
    assert all(np.isfinite(float(value)) for row in rows[1:] for value in row)


def test_checkpoints_hold_no_class(best):
    for path in (best, best.with_name("last.pt")):
        assert torch.serialization.get_unsafe_globals_in_checkpoint(str(path)) == []
    checkpoint = load_checkpoint(best)
    assert checkpoint.form == "train"
    assert checkpoint.class_names == CLASS_NAMES
    assert checkpoint.image_size == SIZE
    assert checkpoint.ema_weights is None and checkpoint.training is None


def test_val_finds_what_training_reported(tmp_path, data, trained, best):
    report, _ = validate(tmp_path, data, best)
    assert tuple(report) == VAL_KEYS
    for key in ("AP", "AP50", "precision", "recall"):
        assert report[key] == pytest.approx(trained[key], abs=1e-9)
    assert report["images"] == 4
    assert [row["name"] for row in report["per_class"]] == list(CLASS_NAMES)
    assert set(report["ms_per_image"]) == {"preprocess", "inference", "postprocess"}


def test_fail_under(tmp_path, data, best, capsys):
    arguments = ["--data", data, "--weights", best, "--imgsz", SIZE, "--noplots", *QUICK]
    arguments += ["--project", tmp_path, "--fail-under", 0.99]
    assert val.main([str(word) for word in arguments]) == 1
    assert "is below --fail-under 0.99" in capsys.readouterr().err


def test_conversion(tmp_path, data, best, deployed):
    output, report = deployed
    assert output == best.with_name("best-deploy.pt")
    assert list(report) == [
        "form_before", "form_after", "stem", "blocks", "parameters", "gflops", "max_rel_error",
        "layers", "AP", "output",
    ]  # fmt: skip
    assert (report["form_before"], report["form_after"]) == ("train", "deploy")
    assert report["blocks"] == {"ConvBNAct": 40, "RepVGG": 17}
    assert report["max_rel_error"]["float64"] <= 1e-10
    assert report["max_rel_error"]["float32"] <= 1e-5
    assert Counter(row["block_before"] for row in report["layers"]) == report["blocks"]
    assert report["parameters"]["after"] < report["parameters"]["before"]
    assert report["gflops"]["after"] < report["gflops"]["before"]
    assert report["AP"] is None  # without --data
    assert load_checkpoint(output).form == "deploy"
    before, expected = validate(tmp_path / "before", data, best)
    after, found = validate(tmp_path / "after", data, output)
    assert after["AP"] == pytest.approx(before["AP"], abs=1e-4)
    assert_same_detections(found, expected, pixels=1)


def test_conversion_compares_AP(tmp_path, data, best, trained):
    output = tmp_path / "d.pt"
    arguments = ("--weights", best, "--output", output, "--data", data, "--imgsz", SIZE)
    report = run(convert, tmp_path / "c.json", *arguments, *QUICK)
    assert report["AP"]["before"] == pytest.approx(trained["AP"], abs=1e-9)
    assert report["AP"]["after"] == pytest.approx(trained["AP"], abs=1e-4)
    assert report["output"] == str(output)


def test_conversion_refuses_above_the_tolerance(tmp_path, best, capsys):
    output = tmp_path / "d.pt"
    arguments = ["--weights", best, "--output", output, "--tolerance", 1e-20]
    assert convert.main([str(word) for word in arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("failed: float32 error ")
    assert error.endswith(" is above 1.0e-20; nothing written\n")
    assert list(tmp_path.iterdir()) == []


def test_converting_twice_is_nothing(tmp_path, deployed):
    output, _ = deployed
    before = output.read_bytes()
    report = run(convert, tmp_path / "c.json", "--weights", output)
    assert (report["form_before"], report["form_after"]) == ("deploy", "deploy")
    assert report["layers"] == []  # nothing was compared
    assert report["output"] == str(output)
    assert output.read_bytes() == before
    assert not output.with_name("best-deploy-deploy.pt").exists()


def test_conversion_ends_with_AP_and_the_path(data, best, tmp_path, capsys):
    """Layer by layer only where it is asked for; GFLOPs are those of the size trained with."""
    output = tmp_path / "deployed.pt"
    capsys.readouterr()
    flags = ("--weights", best, "--data", data, "--output", output, *QUICK)
    report = run(convert, tmp_path / "c.json", *flags)
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if "ConvAct" in line]
    gflops, AP = report["gflops"], report["AP"]
    assert gflops["before"] == network_gflops(
        build_from_checkpoint(load_checkpoint(best)), (SIZE, SIZE)
    )
    assert lines[-3].endswith(
        f", {gflops['before']:.2f} GFLOPs at {SIZE}x{SIZE} px -> {gflops['after']:.2f}"
    )
    assert lines[-2:] == [
        f"mAP50-95: {AP['before']:.4f} before, {AP['after']:.4f} after",
        f"Saved to {output}",
    ]
    run(convert, tmp_path / "c.json", "--weights", output)
    again = capsys.readouterr().out.splitlines()
    assert f"{output} is in deploy form already: nothing to do." in again
    assert not [line for line in again if line.startswith("Saved")]


def test_a_deploy_form_can_be_exported(tmp_path, deployed, onnx_file):
    output = tmp_path / "a.onnx"
    arguments = ("--weights", deployed[0], "--imgsz", SIZE, "--output", output)
    entry = run(export, tmp_path / "e.json", *arguments)["files"][0]
    assert entry["operators"] == onnx_file[1]["operators"]


def test_what_export_reports(onnx_file):
    output, entry = onnx_file
    assert list(entry) == [
        "path", "preset", "bytes", "opset", "operators", "max_rel_error", "latency_ms", "AP",
        "verified", "sizes", "max_rel_error_elsewhere",
    ]  # fmt: skip
    assert (entry["path"], entry["preset"], entry["opset"]) == (str(output), "onnx", 17)
    assert entry["bytes"] == output.stat().st_size
    assert entry["operators"]["Conv"] == 60  # 57 and one per level: no branch, no norm is left
    assert "BatchNormalization" not in entry["operators"]
    assert set(entry["max_rel_error"]) == {"xy", "wh", "objectness", "class"}
    assert max(entry["max_rel_error"].values()) < 1e-4


@pytest.mark.parametrize(
    ("flags", "opset", "shape"),
    [
        ([], 17, [1, 3, SIZE, SIZE]),
        (["--dynamic"], 13, ["batch", 3, "height", "width"]),
        (["--dynamic"], 17, ["batch", 3, "height", "width"]),
        (["--dynamic", "batch"], 13, ["batch", 3, SIZE, SIZE]),
        (["--imgsz", "64", "96", "--batch-size", "2"], 13, [2, 3, 64, 96]),
    ],
)
def test_kinds_of_files(tmp_path, tiny, flags, opset, shape):
    output = tmp_path / "a.onnx"
    arguments = ("--weights", tiny, "--imgsz", SIZE, "--opset", opset, "--output", output, *flags)
    assert run(export, tmp_path / "e.json", *arguments)["files"][0]["opset"] == opset
    model = onnx.load(str(output))
    (given,), (answer,) = model.graph.input, model.graph.output
    dims = [dim.dim_param or dim.dim_value for dim in given.type.tensor_type.shape.dim]
    assert (given.name, dims) == ("images", shape)
    assert answer.name == "output0"
    assert_metadata(output, TINY_CLASSES)


def test_what_an_exported_file_says(onnx_file):
    assert_metadata(onnx_file[0], CLASS_NAMES)


def assert_metadata(path: Path, class_names: tuple[str, ...]) -> None:
    metadata = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    assert metadata["names"] == repr(dict(enumerate(class_names)))
    assert (metadata["stride"], metadata["strides"]) == ("32", "[8, 16, 32]")
    assert metadata["head"] == "decoded"
    assert len(json.loads(metadata["anchors"])) == 3
    assert json.loads(metadata["input"])["color"] == "RGB"
    assert "license" not in metadata
    content = path.read_bytes()
    assert str(Path.cwd()).encode() not in content and b"/site-packages/" not in content


def test_exporting_twice_gives_the_same_bytes(tmp_path, tiny):
    for name in ("one", "other"):
        output = tmp_path / f"{name}.onnx"
        run(export, tmp_path / "e.json", "--weights", tiny, "--imgsz", SIZE, "--output", output)
    assert (tmp_path / "one.onnx").read_bytes() == output.read_bytes()


def test_val_of_an_exported_file(tmp_path, data, best, onnx_file):
    expected, boxes = validate(tmp_path / "pt", data, best, "--no-rect")
    report, found = validate(tmp_path / "onnx", data, onnx_file[0])
    for key in ("AP", "AP50", "recall"):
        assert report[key] == pytest.approx(expected[key], abs=1e-3)
    assert_same_detections(found, boxes, pixels=1)


def test_detect_with_every_kind_of_weights(tmp_path, data, best, deployed, onnx_file):
    """The train form, the deploy form and the exported file find the same."""
    source = data.parent / "images" / "unseen"
    found = []
    for number, weights in enumerate((best, deployed[0], onnx_file[0])):
        report = run(
            detect, tmp_path / "d.json", "--weights", weights, "--source", source,
            "--imgsz", SIZE, SIZE, "--conf-thres", 0.001, "--project", tmp_path,
            "--name", number, "--save-json", "--device", "cpu",
        )  # fmt: skip
        assert (report["frames"], report["skipped"]) == (12, [])
        content = json.loads((tmp_path / str(number) / "predictions.json").read_text())
        found.append([len(entry["detections"]) for entry in content])
        assert len(list((tmp_path / str(number)).glob("*.jpg"))) == 12
        assert sum(found[-1]) == report["detections"]
    assert found[0] == found[1]
    assert found[2] == pytest.approx(found[0], abs=2)


@pytest.mark.slow
def test_a_handful_of_images_can_be_learned(tmp_path):
    """400 steps on four images: most objects are found, in the train form and after folding."""
    write_dataset(tmp_path / "data", SyntheticConfig(images=5, size=SIZE, seed=0))
    data, hyp = tmp_path / "data" / "same.yaml", tmp_path / "hyp.yaml"
    images = {"train": "images/train", "val": "images/train"}
    write_yaml(data, {"path": ".", **images, "names": list(CLASS_NAMES)})
    still = ("mosaic", "scale", "translate", "fliplr", "hsv_h", "hsv_s", "hsv_v", "warmup_epochs")
    rates = {"lr0": 0.003, "lrf": 0.1, "warmup_bias_lr": 0.003, "cls": 1.0}
    write_yaml(hyp, {**dict.fromkeys(still, 0.0), **rates})
    report = run(
        train, tmp_path / "train.json", "--data", data, "--hyp", hyp,
        "--cfg", write_small_yolov5(tmp_path / "small.yaml"), "--imgsz", SIZE, "--epochs", 400,
        "--batch-size", 64, "--optimizer", "AdamW", "--amp", "off", "--cache", "--noplots",
        "--noval", "--project", tmp_path / "runs", *QUICK,
    )  # fmt: skip
    arguments = ("--weights", report["weights"]["last"])
    output = run(convert, tmp_path / "convert.json", *arguments)["output"]
    before, expected = validate(tmp_path / "before", data, report["weights"]["last"], "--no-rect")
    after, found = validate(tmp_path / "after", data, output, "--no-rect")
    assert before["AP"] > 0.5
    assert after["AP"] == pytest.approx(before["AP"], abs=1e-4)
    assert_same_detections(found, expected, pixels=1)
