"""The graphs of a network's two forms, as files would hold them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from models.decoded_network import DecodedNetwork
from models.deploy import to_deploy
from models.detector import Detector
from utils.deploy.graph_summary import GraphSummary
from utils.deploy.onnx_file import OnnxOptions, write_onnx


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
