"""YOLOv5-Lite through the export presets: each takes what its operators allow, others name them."""

from __future__ import annotations

import importlib.util

import pytest

import export
from models.formats.table import PRESETS
from models.network.model_spec import ModelSpec
from tests.checkpoint_builders import save_model
from tests.model_builders import trained_model

# What each needs beyond the operators that compilers of accelerators take.
BEYOND = {
    "e": {"Reshape", "Slice", "Transpose"},  # the channel shuffle
    "s": {"Reshape", "Slice", "Transpose"},
    "c": {"ReduceMean"},  # squeeze and excitation
    "g": set(),
}
FLOATS = {name: preset for name, preset in PRESETS.items() if preset.quantization is None}


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("size", BEYOND)
def test_presets(size, name, tmp_path, capsys):
    preset = PRESETS[name]
    for package in preset.packages:
        if importlib.util.find_spec(package.module) is None:
            pytest.skip(f"{package.module} is not installed")
    spec = ModelSpec.from_file(f"v5lite-{size}.yaml").replaced(width_multiple=0.25)
    weights = save_model(tmp_path / "w.pt", trained_model(spec.replaced(num_classes=3)))
    flags = ["--weights", weights, "--imgsz", 64, "--preset", name, "--output", tmp_path / "files"]
    code = export.main([str(word) for word in flags])
    refused = set() if preset.operators is None else BEYOND[size] - preset.operators
    output = capsys.readouterr()
    assert code == (1 if refused else 0), output.err
    for operator in refused:
        assert operator in output.err
