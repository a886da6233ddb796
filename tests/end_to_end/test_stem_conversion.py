"""`convert.py --stem`: another stem, the same network, files for accelerators."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
import torch

import convert
import detect
import export
from models.checkpoints.loading import build_from_checkpoint
from models.conversion import stem
from models.formats.format import NPU_OPERATORS
from models.network.early_layers import Focus
from tests.checkpoint_builders import save_model, tensors_equal
from tests.model_builders import tiny_spec, tiny_yaml, trained_model
from tests.unit.data.builders import write_yolo_set
from utils.checkpoint import load_checkpoint
from utils.metrics.coco import MIN_MEANINGFUL_AP

SIZE = 96
CONV, FOCUS = "Conv 6x6/2", "Focus 3x3"
STEMS = {"6x6": ["Conv", [32, 6, 2, 2]], "focus": ["Focus", [32, 3]], "3x3": ["Conv", [32, 3, 2]]}


@pytest.fixture
def checkpoints(tmp_path) -> dict[str, Path]:
    """Train forms with RepVGG blocks and each stem."""
    paths = {}
    for name, row in STEMS.items():
        rows = [[-1, 1, *row], *tiny_yaml()["backbone"][1:]]
        model = trained_model(tiny_spec(backbone=rows))
        paths[name] = save_model(tmp_path / f"{name}.pt", model)
    return paths


def run(script, folder: Path, *flags) -> dict:
    report = folder / "report.json"
    assert script.main([str(word) for word in (*flags, "--report", report)]) == 0
    return json.loads(report.read_text())


def test_focus_and_back(tmp_path, checkpoints, capsys):
    """From the train form to Focus, and from there to the very numbers of the plain deploy form."""
    plain = run(convert, tmp_path, "--weights", checkpoints["6x6"])
    assert plain["stem"] == {"before": CONV, "after": CONV}
    focus = run(convert, tmp_path, "--weights", checkpoints["6x6"], "--stem", "focus")
    assert focus["output"] == str(tmp_path / "6x6-focus.pt")
    assert focus["stem"] == {"before": CONV, "after": FOCUS}
    assert (focus["form_before"], focus["form_after"]) == ("train", "deploy")
    assert [row["name"] for row in focus["layers"]] == [row["name"] for row in plain["layers"]]
    assert 0 < focus["max_rel_error"]["float64"] <= 1e-10
    assert focus["max_rel_error"]["float32"] <= 1e-5
    assert focus["parameters"] == plain["parameters"]
    assert f"stem: {CONV} -> {FOCUS}" in capsys.readouterr().out
    back = run(convert, tmp_path, "--weights", focus["output"], "--stem", "conv")
    assert back["output"] == str(tmp_path / "6x6-focus-conv.pt")
    assert back["stem"] == {"before": FOCUS, "after": CONV}
    assert back["layers"] == []  # nothing was folded
    assert 0 < back["max_rel_error"]["float64"] <= 1e-10
    first, last = (load_checkpoint(Path(one["output"])) for one in (plain, back))
    assert tensors_equal(first.weights, last.weights)
    assert first.spec == last.spec


def test_a_focus_checkpoint_becomes_plain_convolutions(tmp_path, checkpoints):
    report = run(convert, tmp_path, "--weights", checkpoints["focus"], "--stem", "conv")
    assert report["stem"] == {"before": FOCUS, "after": CONV}
    model = build_from_checkpoint(load_checkpoint(Path(report["output"])))
    assert not any(isinstance(module, Focus) for module in model.modules())
    original = build_from_checkpoint(load_checkpoint(checkpoints["focus"]))
    x = torch.rand(1, 3, SIZE, SIZE)
    for one, other in zip(original(x), model(x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_the_equivalence_check_covers_the_stem(tmp_path, checkpoints, capsys, monkeypatch):
    """A stem that computes something else is not written."""
    real = stem.focus_kernel

    def wrong(conv):
        kernel = real(conv).clone()
        kernel[0, 0, 0, 0] += 1e-6
        return kernel

    monkeypatch.setattr(stem, "focus_kernel", wrong)
    assert convert.main(["--weights", str(checkpoints["6x6"]), "--stem", "focus"]) == 1
    assert "failed: float64 error " in capsys.readouterr().err
    assert not (tmp_path / "6x6-focus.pt").exists()


def test_AP_stays(tmp_path, checkpoints):
    """On labels that are what the network itself is surest of, so that AP is not 0."""
    names = [f"image{number}" for number in range(4)]
    data = write_yolo_set(tmp_path / "data", dict.fromkeys(names), (SIZE, SIZE))
    flags = ["--weights", checkpoints["6x6"], "--source", tmp_path / "data" / "images", "--imgsz",
             SIZE, "--conf-thres", 0.001, "--max-det", 8, "--save-txt", "--nosave", "--device",
             "cpu", "--project", tmp_path / "runs"]  # fmt: skip
    assert detect.main([str(word) for word in flags]) == 0
    labels = tmp_path / "data" / "labels"
    labels.rmdir()
    (tmp_path / "runs" / "exp" / "labels").rename(labels)
    report = run(
        convert, tmp_path, "--weights", checkpoints["6x6"], "--stem", "focus", "--data", data,
        "--imgsz", SIZE, "--workers", 0, "--device", "cpu",
    )  # fmt: skip
    assert report["AP"]["before"] > MIN_MEANINGFUL_AP
    assert report["AP"]["before"] == pytest.approx(report["AP"]["after"], abs=1e-4)


def test_nothing_to_do(tmp_path, checkpoints):
    focus = run(convert, tmp_path, "--weights", checkpoints["6x6"], "--stem", "focus")["output"]
    content = Path(focus).read_bytes()
    report = run(convert, tmp_path, "--weights", focus, "--stem", "focus")
    assert report["stem"] == {"before": FOCUS, "after": FOCUS}
    assert (report["output"], report["max_rel_error"]) == (focus, None)
    assert Path(focus).read_bytes() == content
    assert not (tmp_path / "6x6-focus-focus.pt").exists()


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("3x3", "--stem focus", "--stem focus: the stem is Conv 3x3/2, and only Conv 6x6/2 can"),
        ("3x3", "--stem conv", "--stem conv: the stem is Conv 3x3/2, and only Focus 3x3 can"),
        ("3x3", "--stem 3x3", "--stem 3x3: no such choice (choices: keep, conv, focus)"),
        ("6x6", "--stem focus --to native", "--stem: goes with --to deploy"),
        ("6x6", "--stem focus --to train --rep-block RepVGG", "--stem: goes with --to deploy"),
    ],
)
def test_what_is_refused(tmp_path, checkpoints, capsys, name, flags, message):
    flags = ["--weights", str(checkpoints[name]), *flags.split()]
    try:
        code = convert.main(flags)
    except SystemExit as stop:  # argparse's own way
        code = stop.code
    assert code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith(f"error: {message}") and "\n" not in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3x3.pt", "6x6.pt", "focus.pt"]


@pytest.mark.parametrize("name", ["6x6", "focus"])
@pytest.mark.parametrize("stem", ["conv", "focus"])
def test_accelerators_get_convolutions(tmp_path, checkpoints, name, stem):
    converted = run(convert, tmp_path, "--weights", checkpoints[name], "--stem", stem)["output"]
    output = tmp_path / "npu.onnx"
    flags = ("--weights", converted, "--preset", "npu", "--imgsz", SIZE, "--output", output)
    (entry,) = run(export, tmp_path, *flags)["files"]
    assert set(entry["operators"]) <= NPU_OPERATORS
    assert max(entry["max_rel_error"].values()) < 1e-4
    graph = onnx.load(str(output)).graph
    kernels = {one.name: list(one.dims) for one in graph.initializer}
    convs = [node for node in graph.node if node.op_type == "Conv"]
    shapes = [kernels[node.input[1]] for node in convs[:2]]
    expected = {"conv": [[8, 3, 6, 6], [8, 8, 3, 3]], "focus": [[12, 3, 2, 2], [8, 12, 3, 3]]}
    assert shapes == expected[stem]
