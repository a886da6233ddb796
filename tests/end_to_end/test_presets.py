"""Every kind of file that export.py writes finds what the checkpoint finds, in its own runtime."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import detect
import export
import val
from data.synthetic.dataset import SyntheticConfig, write_dataset
from models.export import exported_file
from models.export.export_networks import SuppressedNetwork
from models.export.onnx_file import Expected, check_structure
from models.formats.format import NPU_OPERATORS
from models.formats.presets import PRESETS
from models.network.model_spec import ModelSpec
from models.runtimes.open_runner import open_runner
from tests.checkpoint_builders import save_model
from tests.house.source_tree import ROOT
from tests.model_builders import finding_model, tiny_spec, trained_model
from utils.boxes import cxcywh_to_xyxy
from utils.errors import CheckFailedError, CheckpointError
from utils.postprocess import PostprocessConfig, postprocess

SIZE = 96
FLOATS = [name for name, preset in PRESETS.items() if preset.quantization is None]


def installed(name: str) -> None:
    for package in PRESETS[name].packages:
        if importlib.util.find_spec(package.module) is None:
            pytest.skip(f"{package.module} is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("presets")


@pytest.fixture(scope="module")
def weights(folder) -> Path:
    """A network that finds many objects, of several classes."""
    return save_model(folder / "w.pt", finding_model(tiny_spec()))


@pytest.fixture(scope="module")
def data(folder) -> Path:
    return write_dataset(folder / "data", SyntheticConfig(images=12, size=SIZE, seed=0))


@pytest.fixture(scope="module")
def written(folder, weights):
    """The entry of a preset's report, exported once."""
    entries: dict[str, dict] = {}

    def entry_of(name: str) -> dict:
        installed(name)
        if name not in entries:
            report = folder / f"{name}.json"
            flags = ["--weights", weights, "--imgsz", SIZE, "--preset", name, "--report", report,
                     "--output", folder / "files"]  # fmt: skip
            assert export.main([str(word) for word in flags]) == 0
            (entries[name],) = json.loads(report.read_text())["files"]
        return entries[name]

    return entry_of


def detections(weights: Path, data: Path, project: Path) -> list[dict]:
    images = data.parent / "images" / "val"
    flags = ["--weights", weights, "--source", images, "--imgsz", SIZE, SIZE, "--save-json",
             "--nosave", "--project", project, "--exist-ok", "--device", "cpu",
             "--max-det", 100]  # fmt: skip
    assert detect.main([str(word) for word in flags]) == 0
    return json.loads((project / "exp" / "predictions.json").read_text())


@pytest.fixture(scope="module")
def expected(folder, weights, data) -> list[dict]:
    """What the checkpoint finds."""
    return detections(weights, data, folder / "expected")


@pytest.mark.parametrize("name", FLOATS)
def test_detect_finds_the_same(name, written, expected, data, tmp_path):
    entry = written(name)
    found = detections(Path(entry["path"]), data, tmp_path)
    assert entry["preset"] == name
    assert sum(len(frame["detections"]) for frame in expected) > 20
    near = 0.02 if PRESETS[name].half else 1e-3
    for one, other in zip(expected, found, strict=True):
        assert abs(len(one["detections"]) - len(other["detections"])) <= (near > 0.01)
        scores = [[d["score"] for d in frame["detections"]] for frame in (one, other)]
        common = min(len(score) for score in scores)
        np.testing.assert_allclose(scores[0][:common], scores[1][:common], atol=near)


@pytest.mark.parametrize("name", FLOATS)
def test_val_evaluates_each(name, written, data, tmp_path):
    flags = ["--weights", written(name)["path"], "--data", data, "--imgsz", SIZE, "--noplots",
             "--workers", 0, "--project", tmp_path, "--report", tmp_path / "r.json", "--conf-thres",
             0.25, "--single-cls"]  # fmt: skip
    assert val.main([str(word) for word in flags]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["images"] > 0


def test_what_is_written(written):
    npu, e2e, opencv = written("npu"), written("e2e"), written("opencv4")
    assert set(npu["operators"]) <= NPU_OPERATORS
    assert "Split" not in opencv["operators"] and opencv["opset"] == 12
    assert e2e["operators"]["NonMaxSuppression"] == 1
    graph = onnx.load(npu["path"]).graph
    assert [output.name for output in graph.output] == ["p3", "p4", "p5"]
    sizes = [[d.dim_value for d in o.type.tensor_type.shape.dim] for o in graph.output]
    assert sizes == [[1, 16, SIZE // s, SIZE // s] for s in (8, 16, 32)]
    answers = {o.name: o for o in onnx.load(e2e["path"]).graph.output}
    assert [d.dim_value for d in answers["detections"].type.tensor_type.shape.dim] == [1, 100, 6]
    assert written("torchscript")["operators"] == {} and written("torchscript")["opset"] is None


def test_boxes_with_scores(written, weights):
    """What their readers compute of the two files is what the decoded predictions say."""
    image = np.random.default_rng(0).random((1, 3, SIZE, SIZE), np.float32)
    expected = open_runner(str(weights), device="cpu").run(image)
    scores = expected[..., 5:] * expected[..., 4:5]
    columns = onnx_output(written("ultralytics")["path"], image)
    assert columns.shape == (1, 4 + 3, expected.shape[1])
    np.testing.assert_allclose(columns[:, :4].transpose(0, 2, 1), expected[..., :4], atol=1e-2)
    np.testing.assert_allclose(columns[:, 4:].transpose(0, 2, 1), scores, atol=1e-4)
    rows = onnx_output(written("deepstream")["path"], image)
    assert rows.shape == (1, expected.shape[1], 6)
    np.testing.assert_allclose(rows[0, :, :4], cxcywh_to_xyxy(expected[0, :, :4]), atol=1e-2)
    np.testing.assert_allclose(rows[..., 4], scores.max(-1), atol=1e-4)
    chosen = np.take_along_axis(scores, rows[..., 5:].astype(int), -1)[..., 0]
    np.testing.assert_allclose(chosen, scores.max(-1), atol=1e-4)
    texts = onnx.load(written("ultralytics")["path"]).metadata_props
    assert {each.key: each.value for each in texts}["task"].strip('"') == "detect"


def test_probability_maps(written, weights):
    image = np.random.default_rng(0).random((1, 3, SIZE, SIZE), np.float32)
    session = onnxruntime.InferenceSession(written("sigmoid")["path"])
    maps = session.run(["p3", "p4", "p5"], {"images": image})
    logits = onnxruntime.InferenceSession(written("npu")["path"]).run(None, {"images": image})
    for probability, logit in zip(maps, logits, strict=True):
        np.testing.assert_allclose(probability, 1 / (1 + np.exp(-logit)), atol=1e-5)
    assert set(written("sigmoid")["operators"]) <= NPU_OPERATORS


def onnx_output(path: str, image: np.ndarray) -> np.ndarray:
    """The only output of a file."""
    (output,) = onnxruntime.InferenceSession(path).run(None, {"images": image})
    return output


def test_opencv_runs_the_file_for_it(written):
    path = written("opencv4")["path"]
    image = np.random.default_rng(0).random((1, 3, SIZE, SIZE), np.float32)
    network = cv2.dnn.readNetFromONNX(path)
    network.setInput(image)
    expected = open_runner(path, device="cpu").run(image)
    np.testing.assert_allclose(network.forward(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "name",
    ["torchscript", *(pytest.param(n, marks=pytest.mark.slow) for n in ("openvino", "ncnn"))],
)
def test_two_exports_are_the_same_bytes_and_name_no_folder(name, weights, tmp_path):
    installed(name)
    for number in range(2):
        command = [sys.executable, "export.py", "--weights", weights, "--imgsz", "64", "--preset",
                   name, "--output", tmp_path / f"{number}"]  # fmt: skip
        assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
    first, second = (
        {p.name: p.read_bytes() for p in sorted((tmp_path / str(n)).rglob("*")) if p.is_file()}
        for n in range(2)
    )
    assert first == second
    assert not any(str(folder).encode() in content
                   for content in first.values() for folder in (ROOT, tmp_path))  # fmt: skip


def decoded(boxes: int, seed: int = 0) -> np.ndarray:
    """(2, N, 5 + 4) predictions, many of which overlap."""
    rng = np.random.default_rng(seed)
    centres, sizes = rng.uniform(20, 80, (2, boxes, 2)), rng.uniform(10, 40, (2, boxes, 2))
    return np.concatenate([centres, sizes, rng.random((2, boxes, 5))], 2).astype(np.float32)


@pytest.mark.parametrize("config", [
    PostprocessConfig(0.25, 0.45, 100),
    PostprocessConfig(0.25, 0.45, 7),  # more are found than there is room for
    PostprocessConfig(0.9999, 0.45, 5),  # nothing is found
])  # fmt: skip
@pytest.mark.parametrize("seed", range(3))
def test_suppression_in_the_network_is_that_of_every_program(config, seed):
    predictions = decoded(200, seed)
    network = SuppressedNetwork(trained_model(tiny_spec()), config)
    network.coder = type("Fixed", (), {"decode": lambda *_: torch.from_numpy(predictions)})()
    rows, counts = network(torch.zeros(2, 3, 64, 64))
    assert rows.shape == (2, config.max_detections, 6)
    for image in range(2):
        expected = postprocess(predictions[image], config)
        count = int(counts[image])
        assert count == len(expected)
        np.testing.assert_allclose(rows[image, :count, :4], expected.boxes, atol=1e-4)
        np.testing.assert_allclose(rows[image, :count, 4], expected.scores, rtol=1e-6)
        assert rows[image, :count, 5].tolist() == expected.class_ids.tolist()
        assert not rows[image, count:].any()


def expected_of(path: str) -> Expected:
    model = onnx.load(path)
    return Expected(
        opset=12,
        outputs=("p3", "p4", "p5"),
        convolutions=sum(node.op_type == "Conv" for node in model.graph.node),
        texts={entry.key: entry.value for entry in model.metadata_props},
    )


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({"opset": 13}, "opset 12 came out, 13 was asked for"),
        ({"outputs": ("p3", "p4")}, "outputs p3, p4, p5, expected p3, p4"),
        ({"convolutions": 3}, "convolutions, the network has 3"),
        ({"texts": {}}, "its metadata is not what was written"),
    ],
)
def test_a_file_that_is_not_what_was_asked_for(written, changes, flags):
    path = written("npu")["path"]
    expected = expected_of(path)
    check_structure(Path(path), PRESETS["npu"], expected)
    with pytest.raises(CheckFailedError) as caught:
        check_structure(Path(path), PRESETS["npu"], dataclasses.replace(expected, **changes))
    assert flags in str(caught.value) and str(caught.value).endswith("no file is left behind")


def test_operators_that_a_preset_must_not_have(written):
    path = written("npu")["path"]
    strict = dataclasses.replace(PRESETS["npu"], operators=NPU_OPERATORS - {"Resize"})
    with pytest.raises(CheckFailedError, match="must not have: Resize"):
        check_structure(Path(path), strict, expected_of(path))


@pytest.mark.parametrize("name", ["npu", "e2e", "torchscript", "openvino", "ncnn"])
def test_a_file_that_differs_from_pytorch_is_not_kept(name, weights, tmp_path, monkeypatch, capsys):
    installed(name)
    strict = {**PRESETS, name: dataclasses.replace(PRESETS[name], tolerance=0.0)}
    monkeypatch.setattr(exported_file, "PRESETS", strict)
    flags = [
        "--weights",
        weights,
        "--imgsz",
        SIZE,
        "--preset",
        name,
        "--output",
        tmp_path / "x",
    ]
    assert export.main([str(word) for word in flags]) == 1
    assert "differs from PyTorch by" in capsys.readouterr().err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--preset npu --dynamic", "--dynamic: files of preset npu have fixed sizes"),
        ("--preset npu --opset 17", "--opset 17: preset npu is written with 11 to 13"),
        ("--preset opencv4 --opset 13", "--opset 13: preset opencv4 is written with 12"),
        ("--preset ncnn --batch-size 2", "--batch-size 2: ncnn files take one image at a time"),
        (
            "--preset torchscript --output a.onnx",
            "--output a.onnx: what this preset writes must end",
        ),
        (
            "--preset openvino --output a.xml",
            "--output a.xml: what this preset writes must end in _",
        ),
        ("--preset onnx npu --output a.onnx", "--output a.onnx: give a folder for several presets"),
    ],
)
def test_messages(weights, flags, message, capsys):
    assert export.main(["--weights", str(weights), "--imgsz", "64", *flags.split()]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {message}")


def test_several_presets_at_once(weights, tmp_path):
    flags = ["--weights", weights, "--imgsz", 64, "--preset", "onnx", "--preset", "npu", "--nms",
             "--output", tmp_path]  # fmt: skip
    assert export.main([str(word) for word in flags]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "w-e2e.onnx",
        "w-npu.onnx",
        "w.onnx",
    ]


def test_files_that_are_none(tmp_path):
    (tmp_path / "x.torchscript").write_bytes(b"PK\x03\x04")
    with pytest.raises(CheckpointError, match=r"x\.torchscript: cannot be opened as TorchScript"):
        open_runner(str(tmp_path / "x.torchscript"), device="cpu")
    pytest.importorskip("openvino")
    (tmp_path / "y_openvino_model").mkdir()
    with pytest.raises(CheckpointError, match=r"holds 0 \.xml files, expected one"):
        open_runner(str(tmp_path / "y_openvino_model"))
    (tmp_path / "y_openvino_model" / "y.xml").write_text("<net/>")
    with pytest.raises(CheckpointError, match="OpenVINO cannot read it"):
        open_runner(str(tmp_path / "y_openvino_model"))


def test_ncnn_folders_that_are_none(tmp_path):
    pytest.importorskip("ncnn")
    folder = tmp_path / "x_ncnn_model"
    folder.mkdir()
    with pytest.raises(CheckpointError, match=r"metadata\.json: no such file; export"):
        open_runner(str(folder))
    (folder / "metadata.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read as JSON"):
        open_runner(str(folder))


@pytest.mark.parametrize("size", ["n", pytest.param("s", marks=pytest.mark.slow)])
def test_networks_for_accelerators_export_to_the_plainest_operators(size, tmp_path):
    """3x3 and 1x1 convolutions, ReLU, and what joins them; channels in multiples of 16."""
    model = trained_model(ModelSpec.from_file(f"repyolov5{size}-npu.yaml"))
    weights = save_model(tmp_path / "w.pt", model)
    flags = [
        "--weights",
        weights,
        "--imgsz",
        64,
        "--preset",
        "npu",
        "--report",
        tmp_path / "r.json",
    ]
    assert export.main([str(word) for word in flags]) == 0
    (entry,) = json.loads((tmp_path / "r.json").read_text())["files"]
    assert set(entry["operators"]) == {"Conv", "Relu", "Add", "Concat", "MaxPool", "Resize"}
    nodes = onnx.load(entry["path"]).graph.node
    kernels = [a.ints[0] for n in nodes if n.op_type == "Conv"
               for a in n.attribute if a.name == "kernel_shape"]  # fmt: skip
    assert set(kernels) == {1, 3}
    channels = {c.out_channels for c in model.modules() if isinstance(c, torch.nn.Conv2d)} - {255}
    assert all(channel % 16 == 0 for channel in channels)


@pytest.mark.parametrize("name", ["e2e", "openvino", "ultralytics", "deepstream"])
@pytest.mark.parametrize("flags", [["--dynamic"], ["--batch-size", "2"]], ids=["dynamic", "two"])
def test_other_sizes(name, flags, weights, tmp_path):
    """Each is compared with PyTorch at several sizes, and with batches that it must fill up."""
    installed(name)
    # On flat background this network has many boxes of one score, 0.28: rounding chooses there.
    given = ["--weights", weights, "--imgsz", 64, "--preset", name, "--output", tmp_path,
             "--conf-thres", 0.25, *flags]  # fmt: skip
    assert export.main([str(word) for word in given]) == 0
    runner = open_runner(str(next(tmp_path.iterdir())), device="cpu")
    hw = (96, 64) if flags == ["--dynamic"] else (64, 64)
    assert len(runner.run(np.zeros((3, 3, *hw), np.float32))) == 3
