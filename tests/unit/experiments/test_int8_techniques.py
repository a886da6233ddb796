"""The table of quantization techniques, from reports that are there already."""

from __future__ import annotations

import json
from pathlib import Path

from experiments.int8_techniques import Network, row


def test_a_technique_that_diverged_has_no_figure(tmp_path):
    network = Network("n", Path("n.pt"), Path("n.yaml"), 64, ("bias", "train"))
    calibrated = {"minmax": 0.25, "percentile": 0.5}
    for technique, AP in (("bias", {"percentile, bias": 0.375}), ("train", {})):
        entry = {"calibration": {"AP": {**calibrated, **AP}}, "AP_float": 0.625}
        report = tmp_path / f"64_per_tensor_{technique}.json"
        report.write_text(json.dumps({"files": [entry]}))
    assert row(network, "per tensor", tmp_path) == (
        "| n | per tensor | 0.6250 | 0.5000 (percentile) | - | - | 0.3750 | - |"
    )
