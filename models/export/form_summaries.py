"""The graphs of a network's forms, as files would hold them."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from models.conversion.deploy import to_deploy
from models.export.export_networks import DecodedNetwork
from models.export.graph_summary import GraphSummary
from models.export.onnx_file import OnnxOptions, write_onnx
from models.network.detector import Detector
from utils.output_files import atomic_folder


def form_summaries(
    detector: Detector, form: str, input_hw: tuple[int, int], output: Path | None
) -> dict[str, GraphSummary]:
    """`train form`, unless it is gone, and `deploy form` of a network, exported in the same way.

    Args:
        detector: in eval mode.
        form: "train" or "deploy": which one it is.
        input_hw: height and width of the network input.
        output: folder that keeps the graphs, as `train.onnx` and `deploy.onnx`; None for none.

    Raises:
        OutputError: the folder cannot be written.
    """
    forms = {form: detector, "deploy": to_deploy(detector)}
    found = {}
    with ExitStack() as stack:
        if output is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            folder = stack.enter_context(atomic_folder(output))
        for name, network in forms.items():
            path = folder / f"{name}.onnx"
            write_onnx(path, DecodedNetwork(network).eval(), OnnxOptions(input_hw), {})
            found[f"{name} form"] = GraphSummary.of(path)
    return found
