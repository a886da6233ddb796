"""A file names a licence where one is known, and none else."""

from __future__ import annotations

import onnx
import pytest

import export
from tests.checkpoint_builders import save_model
from tests.model_builders import tiny_spec, trained_model


@pytest.mark.parametrize(
    ("config", "flags", "expected"),
    [
        ({}, {}, None),  # trained here: whose it is, is its owner's to say
        ({"license": "AGPL-3.0"}, {}, "AGPL-3.0"),  # came with the checkpoint
        ({}, {"license": "MIT"}, "MIT"),
        ({"license": "AGPL-3.0"}, {"license": "a contract"}, "a contract"),
    ],
    ids=["unknown", "checkpoint", "flag", "flag before checkpoint"],
)
def test_the_licence_of_a_file(config, flags, expected, tmp_path):
    weights = save_model(tmp_path / "w.pt", trained_model(tiny_spec(), seed=3), config=config)
    export.export(export.ExportConfig(str(weights), imgsz=(64,), **flags))
    entries = onnx.load(str(tmp_path / "w.onnx")).metadata_props
    assert {each.key: each.value for each in entries}.get("license") == expected
