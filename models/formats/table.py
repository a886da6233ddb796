"""The formats: one row each. A new one is a module of this package and a row here.

A module is imported when a file of its format is opened; `models.formats.presets` imports all.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.formats.format import Format


@dataclass(frozen=True, slots=True)
class FormatRow:
    """A format.

    Attributes:
        module: describes it, in its FORMAT.
        suffixes: how the paths of its files or folders end; none where they are other formats'.
        opened_by: where its Runtime is; empty where it is in `module` alone.
    """

    module: str
    suffixes: tuple[str, ...] = ()
    opened_by: str = ""

    @property
    def format(self) -> Format:
        """What the module says of it."""
        found: Format = import_module(self.module).FORMAT
        return found


CHECKPOINT = FormatRow("models.formats.checkpoint", (".pt", ".pth"))
TABLE: tuple[FormatRow, ...] = (
    CHECKPOINT,
    # Here in short, since most runs open an ONNX file and should begin at once.
    FormatRow("models.formats.onnx", (".onnx",), "models.runtimes.onnx_runner.ONNXRUNTIME"),
    FormatRow("models.formats.ultralytics"),
    FormatRow("models.formats.torchscript", (".torchscript",)),
    FormatRow("models.formats.openvino", ("_openvino_model", ".xml")),
    FormatRow("models.formats.ncnn", ("_ncnn_model",)),
    FormatRow("models.formats.opencv"),
    FormatRow("models.formats.qdq"),
    FormatRow("models.formats.qnn"),
    FormatRow("models.formats.tensorrt"),
    FormatRow("models.formats.deepstream"),
    FormatRow("models.formats.rknn", ("_rknn_model",)),
    FormatRow("models.formats.sigmoid_maps"),
    FormatRow("models.formats.hailo", ("_hailo_model",)),
    FormatRow("models.formats.horizon", ("_horizon_model",)),
    FormatRow("models.formats.ascend", ("_ascend_model",)),
    FormatRow("models.formats.axera", ("_axera_model",)),
)
