"""An e2e file that finds nothing in the images it is compared on: a warning says so."""

from __future__ import annotations

import pytest

import export
from tests.checkpoint_builders import save_model
from tests.model_builders import finding_model, tiny_spec


@pytest.mark.parametrize(("threshold", "is_said"), [("0.25", False), ("1", True)])
def test_it_is_said(tmp_path, capsys, threshold, is_said):
    weights = save_model(tmp_path / "w.pt", finding_model(tiny_spec(), 1.5))
    flags = ["--weights", str(weights), "--nms", "--imgsz", "64", "--conf-thres", threshold]
    assert export.main(flags) == 0
    text = "w-e2e.onnx: finds nothing in the images that it was compared on"
    assert (text in capsys.readouterr().err) == is_said
