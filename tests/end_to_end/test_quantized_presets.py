"""8-bit files: made from the user's images, evaluated on them, refused where they lose too much."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import detect
import export
import val
from models.export.request import ExportConfig
from models.formats.rknn_process import PYTHON, find_python
from models.quantization.quantized_onnx import TECHNIQUES
from models.runtimes.open_runner import open_runner
from tests.checkpoint_builders import save_model
from tests.house.source_tree import ROOT
from tests.model_builders import finding_model, tiny_spec, trained_model
from tests.quantized_builders import need_wide_scales
from tests.unit.data.builders import write_yolo_set
from utils.cli import parse
from utils.errors import CheckpointError, MissingPackageError

SIZE = 96


def installed(name: str) -> None:
    """Skip where a preset's tool is not installed."""
    if name == "qdq-u16":
        need_wide_scales()
    if name == "openvino-int8":
        pytest.importorskip("nncf", reason="nncf is not installed")
    if name == "rknn":
        try:
            find_python()
        except MissingPackageError as error:
            pytest.skip(f"rknn-toolkit2 is not installed: {error}")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A network that finds many objects, of several classes."""
    return save_model(tmp_path_factory.mktemp("weights") / "w.pt", finding_model(tiny_spec(), 1.5))


def int8(weights, data, tmp_path, *flags) -> int:
    given = ["--weights", weights, "--imgsz", SIZE, "--int8", "--data", data, "--workers", 0,
             "--output", tmp_path / "q.onnx", "--report", tmp_path / "q.json", *flags]  # fmt: skip
    return export.main([str(word) for word in given])


@pytest.fixture
def three_classes(tmp_path) -> Path:
    """Images under as many names as the network has classes."""
    return write_yolo_set(tmp_path / "set", dict.fromkeys("abcd", "0 0.5 0.5 0.4 0.4\n"))


def test_an_int8_file_is_calibrated_evaluated_and_compared(
    weights, three_classes, tmp_path, capsys
):
    assert int8(weights, three_classes, tmp_path, "--calibration-images", 2) == 0
    (entry,) = json.loads((tmp_path / "q.json").read_text())["files"]
    first = (tmp_path / "q.onnx").read_bytes()
    assert entry["preset"] == "qdq-u8" and entry["opset"] == 13
    assert set(entry["calibration"]["AP"]) == {"minmax", "percentile"}
    assert entry["AP"] == max(entry["calibration"]["AP"].values())
    assert entry["calibration"]["pictures"] == 2 and len(entry["calibration"]["sha256"]) == 64
    assert entry["objectness_values"] > 16
    assert 1 <= len(entry["worst_layers"]) <= 10
    assert entry["operators"]["QuantizeLinear"] > 20
    assert "2 of 2 images to calibrate on are evaluated too" in capsys.readouterr().err
    model = onnx.load(tmp_path / "q.onnx")
    makers = {name: node for node in model.graph.node for name in node.output}
    assert [makers[name].op_type for name in ("p3", "p4", "p5")] == ["Conv"] * 3  # in float32
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    scales = [constants[n.input[1]] for n in model.graph.node
              if n.op_type == "DequantizeLinear" and n.input[0] in constants]  # fmt: skip
    assert sum(len(scale.dims) == 1 and scale.dims[0] > 1 for scale in scales) > 10  # per channel
    assert int8(weights, three_classes, tmp_path, "--calibration-images", 2) == 0
    assert (tmp_path / "q.onnx").read_bytes() == first


def test_an_int8_file_that_loses_too_much_is_not_kept(weights, three_classes, tmp_path, capsys):
    assert (
        int8(weights, three_classes, tmp_path, "--max-drop", -101, "--calibration", "minmax") == 1
    )
    assert "AP, more than --max-drop -101 (worst layers: /" in capsys.readouterr().err
    assert not (tmp_path / "q.onnx").exists()


def test_int8_without_images(weights, capsys):
    assert export.main(["--weights", str(weights), "--imgsz", "64", "--int8"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: INT8 files are calibrated on your images: give --data my.yaml"
    )


@pytest.mark.parametrize(
    ("name", "calibrations"),
    [
        ("qdq-u8 --per-tensor", {"minmax"}),
        ("qdq-u8 --reduce-range", {"minmax"}),
        ("qdq-u16", {"minmax"}),
        ("trt11-int8", {"minmax"}),
        ("openvino-int8", {"performance", "mixed"}),
    ],
)
def test_every_form_of_8_bits(name, calibrations, weights, three_classes, tmp_path):
    installed(name)
    flags = ["--weights", weights, "--imgsz", SIZE, "--preset", *name.split(), "--data",
             three_classes, "--workers", 0, "--output", tmp_path, "--report", tmp_path / "r.json",
             "--calibration", "minmax", "--max-drop", 100]  # fmt: skip
    assert export.main([str(word) for word in flags]) == 0
    (entry,) = json.loads((tmp_path / "r.json").read_text())["files"]
    assert set(entry["calibration"]["AP"]) == calibrations
    assert_finds_the_same(entry, weights, three_classes, tmp_path)


def assert_finds_the_same(entry: dict, weights: Path, data: Path, tmp_path: Path) -> None:
    """Nearly: what a file's entry in the report says of it, and what it computes."""
    assert entry["objectness_values"] > 16
    between = entry["AP_difference"]
    assert between["low"] <= between["difference"] <= between["high"]
    assert between["difference"] == pytest.approx(entry["AP"] - entry["AP_float"])

    image = np.random.default_rng(0).random((2, 3, SIZE, SIZE), np.float32)
    found = open_runner(entry["path"], device="cpu").run(image)
    expected = open_runner(str(weights), device="cpu").run(image)
    assert found.shape == expected.shape
    # Correlated, column by column: neither boxes nor scores are dead or in another order.
    for column in range(found.shape[2]):
        assert np.corrcoef(found[..., column].ravel(), expected[..., column].ravel())[0, 1] > 0.8

    flags = ["--weights", entry["path"], "--source", data.parent / "images", "--imgsz",
             SIZE, "--nosave", "--project", tmp_path / "d", "--device", "cpu"]  # fmt: skip
    assert detect.main([str(word) for word in flags]) == 0


@pytest.mark.parametrize("flags", [[], ["--reduce-range"]])
def test_how_many_bits_weights_use(flags, weights, three_classes, tmp_path):
    given = ["--calibration", "minmax", "--max-drop", 100, *flags]
    assert int8(weights, three_classes, tmp_path, *given) == 0
    tensors = map(onnx.numpy_helper.to_array, onnx.load(tmp_path / "q.onnx").graph.initializer)
    weights_in = [each for each in tensors if each.dtype == np.int8 and each.ndim == 4]
    assert len(weights_in) > 10
    largest = {int(np.abs(each.astype(int)).max()) for each in weights_in}
    assert largest == ({64} if flags else {127})


def test_what_each_form_is_made_of(weights, three_classes, tmp_path):
    """u16 in the pairs of opset 21; TensorRT's with zero points of 0 and biases in float32."""
    need_wide_scales()
    for name in ("qdq-u16", "trt11-int8"):
        flags = ["--weights", weights, "--imgsz", SIZE, "--preset", name, "--data", three_classes,
                 "--workers", 0, "--output", tmp_path, "--calibration", "minmax",
                 "--max-drop", 100]  # fmt: skip
        assert export.main([str(word) for word in flags]) == 0
    wide, symmetric = (onnx.load(tmp_path / f"w-{end}.onnx") for end in ("u16", "trt11-int8"))
    kinds = {tensor.data_type for tensor in wide.graph.initializer}
    assert onnx.TensorProto.UINT16 in kinds and onnx.TensorProto.INT8 in kinds
    assert [(each.domain, each.version) for each in wide.opset_import] == [("", 21)]
    assert wide.ir_version == 10
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor)
                 for tensor in symmetric.graph.initializer}  # fmt: skip
    points = [constants[node.input[2]] for node in symmetric.graph.node
              if node.op_type == "QuantizeLinear"]  # fmt: skip
    assert points and all(point.dtype == np.int8 and not point.any() for point in points)
    assert not any(value.dtype == np.int32 for value in constants.values())


@pytest.fixture(scope="module")
def rknn(weights, tmp_path_factory) -> tuple[dict, Path]:
    """The entry of an RKNN folder in its report, and the data; a relative path, with a space."""
    installed("rknn")
    root = tmp_path_factory.mktemp("rknn")
    (root / "a b").mkdir()
    shutil.copyfile(weights, root / "a b" / "w é.pt")
    data = write_yolo_set(root / "set", dict.fromkeys("abcd", "0 0.5 0.5 0.4 0.4\n"))
    flags = ["--weights", "a b/w é.pt", "--imgsz", SIZE, "--preset", "rknn", "--data", data,
             "--workers", 0, "--report", root / "r.json", "--max-drop", 100,
             "--calibration-images", 3]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert export.main([str(word) for word in flags]) == 0
    (entry,) = json.loads((root / "r.json").read_text())["files"]
    return {**entry, "path": str(root / entry["path"])}, data


def test_an_rknn_folder_finds_the_same(rknn, weights, tmp_path):
    entry, data = rknn
    assert set(entry["calibration"]["AP"]) == {"normal"}
    assert_finds_the_same(entry, weights, data, tmp_path)


def test_an_rknn_folder_holds_what_rockchips_tools_take(rknn, tmp_path):
    entry, _ = rknn
    assert Path(entry["path"]).name == "w é_rknn_model"
    assert len(list(Path(entry["path"]).parent.iterdir())) == 2
    folder = shutil.copytree(entry["path"], tmp_path / "w_rknn_model")
    assert sorted(path.name for path in folder.iterdir()) == [
        "anchors.txt", "calibration", "dataset.txt", "metadata.json", "model.onnx", "model.rknn",
    ]  # fmt: skip
    images = (folder / "dataset.txt").read_text().split()
    assert len(images) == 3 and all((folder / name).is_file() for name in images)
    sides = [float(line) for line in (folder / "anchors.txt").read_text().split()]
    assert sides == [10, 13, 16, 30, 30, 61, 62, 45, 116, 90, 156, 198]
    table = entry["npu"]["table"]
    assert entry["npu"]["cycles"] == sum(row["cycles"] for row in table) > 0
    assert {row["operator"] for row in table if row["target"] != "NPU"} == {
        "InputOperator", "OutputOperator",
    }  # fmt: skip
    (folder / "dataset.txt").unlink()
    with pytest.raises(CheckpointError, match=r"dataset\.txt: no such file, which the simulator"):
        open_runner(str(folder))


def test_without_the_toolkit(weights, three_classes, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(PYTHON, str(tmp_path / "nowhere"))
    flags = ["--weights", weights, "--imgsz", SIZE, "--preset", "rknn", "--data", three_classes,
             "--workers", 0, "--output", tmp_path]  # fmt: skip
    assert export.main([str(word) for word in flags]) == 2
    assert "error: RKNN files need rknn-toolkit2" in capsys.readouterr().err
    assert not list(tmp_path.glob("*rknn*"))


def test_techniques_are_tried_on_the_best_file(weights, three_classes, tmp_path, capsys):
    flags = ["--technique", *TECHNIQUES, "--qat-epochs", 1, "--calibration", "minmax"]
    assert int8(weights, three_classes, tmp_path, *flags) == 0
    (entry,) = json.loads((tmp_path / "q.json").read_text())["files"]
    tried = entry["calibration"]["AP"]
    assert len(tried) == 1 + len(TECHNIQUES)
    assert [name.rpartition(", ")[2] for name in tried] == ["minmax", *TECHNIQUES]
    assert entry["AP"] == max(tried.values()) == tried[entry["calibration"]["method"]]
    assert "8-bit epoch 1/1: loss" in capsys.readouterr().out


def test_techniques_come_in_the_order_in_which_none_undoes_another():
    given = parse(ExportConfig, ["--int8", "--remedy", "train", "bias", "mixed"], {})
    assert given.techniques() == ("mixed", "bias", "train")


@pytest.mark.parametrize("name", [pytest.param("openvino-int8", marks=pytest.mark.slow), "qdq-u8"])
def test_relative_paths_with_spaces(name, weights, three_classes, tmp_path, monkeypatch):
    installed(name)
    (tmp_path / "a b").mkdir()
    shutil.copyfile(weights, tmp_path / "a b" / "w é.pt")
    monkeypatch.chdir(tmp_path)
    flags = ["--weights", "a b/w é.pt", "--imgsz", 64, "--preset", name, "--data", three_classes,
             "--workers", 0, "--calibration", "minmax", "--max-drop", 100,
             "--calibration-images", 2]  # fmt: skip
    assert export.main([str(word) for word in flags]) == 0
    assert len(list((tmp_path / "a b").iterdir())) == 2


def test_inputs_that_are_not_square(weights, three_classes, tmp_path):
    flags = ["--weights", weights, "--imgsz", 64, 96, "--preset", "qdq-u8", "--data",
             three_classes, "--workers", 0, "--calibration", "minmax", "--max-drop", 100,
             "--output", tmp_path, "--report", tmp_path / "r.json"]  # fmt: skip
    assert export.main([str(word) for word in flags]) == 0
    runner = open_runner(str(tmp_path / "w-int8.onnx"), device="cpu")
    assert runner.input_hw == (64, 96)
    (entry,) = json.loads((tmp_path / "r.json").read_text())["files"]
    flags = ["--weights", tmp_path / "w-int8.onnx", "--data", three_classes, "--workers", 0,
             "--noplots", "--project", tmp_path / "v", "--report", tmp_path / "v.json",
             "--imgsz", 96]  # fmt: skip
    assert val.main([str(word) for word in flags]) == 0
    assert json.loads((tmp_path / "v.json").read_text())["AP"] == entry["AP"]


@pytest.mark.parametrize("name", ["qdq-u8", "qdq-u16"])
def test_qnn_takes_the_whole_network(name, weights, three_classes, tmp_path):
    pytest.importorskip("onnxruntime_qnn", reason="onnxruntime-qnn is not installed")
    flags = ["--weights", weights, "--imgsz", 64, "--preset", name, "--data", three_classes,
             "--workers", 0, "--calibration", "minmax", "--max-drop", 100, "--output", tmp_path,
             "--report", tmp_path / "r.json"]  # fmt: skip
    assert export.main([str(word) for word in flags]) == 0
    (entry,) = json.loads((tmp_path / "r.json").read_text())["files"]
    assert "QNN" in entry["verified"] and "QNN's HTP simulator" in entry["max_rel_error_elsewhere"]


def test_a_python_without_the_toolkit(weights, three_classes, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(PYTHON, sys.executable)
    flags = ["--weights", weights, "--imgsz", 64, "--preset", "rknn", "--data", three_classes,
             "--workers", 0, "--output", tmp_path]  # fmt: skip
    assert export.main([str(word) for word in flags]) == 2
    assert "this Python has no rknn-toolkit2" in capsys.readouterr().err
    monkeypatch.setenv(PYTHON, str(three_classes))  # no program
    assert export.main([str(word) for word in flags]) == 2
    assert "cannot be run" in capsys.readouterr().err


def test_openvino_tells_nobody():
    pytest.importorskip("openvino")
    code = (
        "import sys; from models.formats.openvino import import_openvino; "
        "core = import_openvino().Core(); core.available_devices; "
        "print([name for name in sys.modules if 'telemetry' in name and 'ovc' not in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_equalization_is_not_for_silu(three_classes, tmp_path, capsys):
    weights = save_model(tmp_path / "s.pt", trained_model(tiny_spec(activation="SiLU"), seed=3))
    flags = ["--technique", "equalize", "--calibration", "minmax", "--max-drop", 100]
    assert int8(weights, three_classes, tmp_path, *flags) == 2
    assert "SiLU" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "q.onnx").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--technique bias", "--technique: is for 8-bit ONNX files"),
        ("--per-tensor", "--per-tensor: is for 8-bit ONNX files"),
        ("--preset rknn --reduce-range", "--reduce-range: is for 8-bit ONNX files"),
        ("--preset rknn --remedy bias", "--technique: is for 8-bit ONNX files"),
        ("--int8 --half", "--half: preset qdq-u8 is not written in float16"),
        ("--preset rknn --batch-size 2", "--batch-size 2: rknn files take one image at a time"),
    ],
)
def test_messages(weights, three_classes, flags, message, capsys):
    given = ["--weights", str(weights), "--imgsz", "64", "--data", str(three_classes)]
    assert export.main([*given, *flags.split()]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("flags", "presets"),
    [
        ("", ["onnx"]),
        ("--int8", ["qdq-u8"]),
        ("--int8 --nms", ["qdq-u8", "e2e"]),
        ("--nms", ["e2e"]),
        ("--include openvino --int8", ["openvino-int8"]),
        ("--include onnx openvino --int8", ["qdq-u8", "openvino-int8"]),
        ("--preset npu --int8", ["npu", "qdq-u8"]),
        ("--preset onnx npu --nms", ["onnx", "npu", "e2e"]),
    ],
)
def test_what_the_words_of_yolov5_mean(flags, presets):
    assert list(parse(ExportConfig, flags.split(), {}).presets()) == presets
