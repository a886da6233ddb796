"""The graphs of a network's two forms, as files would hold them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from models.conversion.deploy import to_deploy
from models.export.graph_summary import GraphSummary
from models.export.onnx_file import OnnxOptions, write_onnx
from models.network.box_coder import DecodedNetwork
from models.network.detector import Detector


def form_summaries(detector: Detector, input_hw: tuple[int, int]) -> dict[str, GraphSummary]:
    """`train form` and `deploy form` of a network in eval mode, both exported in the same way."""
    forms = {"train form": detector, "deploy form": to_deploy(detector)}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, form in forms.items():
            path = Path(folder) / "form.onnx"
            write_onnx(path, DecodedNetwork(form).eval(), OnnxOptions(input_hw), {})
            found[name] = GraphSummary.of(path)
    return found
