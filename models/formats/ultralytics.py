"""ONNX as the package `ultralytics` writes it of YOLOv8 and later, for programs that read those.

Boxes are columns (B, 4 + C, N), scores are objectness times class probability, and the metadata
names the task: so `YOLO(path)` loads the file, and programs that take a "v8" model do. Not for
programs of ultralytics/yolov5, which read the preset `onnx`.
"""

from __future__ import annotations

from models.formats.format import Format, Preset
from models.runtimes.onnx_runner import ONNXRUNTIME

FORMAT = Format(
    name="ONNX of YOLOv8's kind",
    presets=(
        Preset(
            name="ultralytics", description="programs that read YOLOv8's files, as `YOLO()` does",
            outputs="boxes with scores (B, 4 + C, N)", head="scores", suffix="-ultralytics.onnx",
            runtime=ONNXRUNTIME, may_be_half=True,
        ),
    ),
)  # fmt: skip
