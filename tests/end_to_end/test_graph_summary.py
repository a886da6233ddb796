"""`export.py --summary`: what is in a file, and what converting a network takes out of it."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import export
from models.conversion.deploy import to_deploy
from models.export.graph_summary import GraphSummary
from models.network.detector import count_parameters
from tests.checkpoint_builders import save_model
from tests.model_builders import tiny_spec, trained_model
from tests.onnx_builders import save_detector
from utils.errors import CheckpointError


def test_both_forms_of_a_checkpoint(tmp_path, capsys):
    model = trained_model(tiny_spec(rep_block="RepVGG"))
    weights, report = save_model(tmp_path / "w.pt", model), tmp_path / "s.json"

    assert export.main(["--summary", str(weights), "--imgsz", "64", "--report", str(report)]) == 0

    forms = json.loads(report.read_text())["summary"]
    train, deploy = forms["train form"], forms["deploy form"]
    blocks = sum("branches.identity" in name for name, _ in model.named_modules()
                 if name.endswith("identity"))  # fmt: skip
    assert train["operators"]["BatchNormalization"] == blocks > 0
    assert "BatchNormalization" not in deploy["operators"]
    assert train["operators"]["Conv"] > deploy["operators"]["Conv"] == len(deploy["layers"])
    assert deploy["parameters"] == count_parameters(to_deploy(model))
    assert train["nodes"] == sum(train["operators"].values()) > deploy["nodes"]
    assert deploy["layers"][0]["output"] == [1, 8, 32, 32]
    out = capsys.readouterr().out
    assert out.splitlines()[1].split() == ["layer", "operator", "output", "parameters"]
    assert f"{'operator':<20} {'train form':>14}{'deploy form':>14}" in out
    assert f"{'BatchNormalization':<20} {blocks:>14}{0:>14}" in out


def test_the_graphs_of_both_forms_are_kept_for_a_viewer(tmp_path, capsys):
    weights = save_model(tmp_path / "w.pt", trained_model(tiny_spec(rep_block="RepVGG")))
    folder, report = tmp_path / "graphs", tmp_path / "s.json"
    flags = ["--imgsz", "64", "--output", str(folder)]

    assert export.main(["--summary", str(weights), *flags, "--report", str(report)]) == 0

    assert {path.name for path in folder.iterdir()} == {"train.onnx", "deploy.onnx"}
    counted = json.loads(report.read_text())["summary"]
    for name in ("train", "deploy"):
        onnx.checker.check_model(folder / f"{name}.onnx", full_check=True)
        kept = GraphSummary.of(folder / f"{name}.onnx")
        assert kept.report() == counted[f"{name} form"]
    assert str(folder) in capsys.readouterr().out

    (tmp_path / "file").touch()
    flags[-1] = str(tmp_path / "file")
    assert export.main(["--summary", str(weights), *flags]) == 2
    assert "--output" in capsys.readouterr().err


def test_a_deploy_form_has_one_graph(tmp_path, capsys):
    model = to_deploy(trained_model(tiny_spec(rep_block="RepVGG")))
    weights = save_model(tmp_path / "w.pt", model, form="deploy")

    assert export.main(["--summary", str(weights), "--imgsz", "64"]) == 0

    out = capsys.readouterr().out
    assert "deploy form" in out and "train form" not in out


def test_any_onnx_file(tmp_path, capsys):
    path = save_detector(tmp_path / "x.onnx", [[1.0] * 7])

    assert export.main(["--summary", str(path)]) == 0

    assert GraphSummary.of(path).operators == {"Mul": 2, "ReduceMax": 1, "Reshape": 1, "Add": 1}
    assert "ReduceMax" in capsys.readouterr().out


def test_weights_of_an_8_bit_file_are_counted(tmp_path):
    """They reach their convolution through a DequantizeLinear, whose scales are none of them."""
    weights, bias = np.ones((4, 3, 3, 3), np.int8), np.zeros(4, np.int32)
    scales, zeros = np.ones(4, np.float32), np.zeros(4, np.int8)
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["w", "s", "z"], ["weight"], axis=0),
            helper.make_node("DequantizeLinear", ["b", "s"], ["bias"], axis=0),
            helper.make_node("Conv", ["images", "weight", "bias"], ["maps"]),
        ],
        "eight bits",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, (1, 3, 8, 8))],
        [helper.make_tensor_value_info("maps", TensorProto.FLOAT, (1, 4, 6, 6))],
        [numpy_helper.from_array(array, name)
         for name, array in {"w": weights, "b": bias, "s": scales, "z": zeros}.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph), tmp_path / "x.onnx")

    summary = GraphSummary.of(tmp_path / "x.onnx")

    assert summary.parameters == summary.layers[0].parameters == weights.size + bias.size


def test_a_file_that_is_none(tmp_path, capsys):
    (tmp_path / "x.onnx").write_text("no")
    with pytest.raises(CheckpointError, match=r"x\.onnx: cannot be read as ONNX"):
        GraphSummary.of(tmp_path / "x.onnx")
    assert export.main(["--summary", str(tmp_path / "gone.onnx")]) == 2
