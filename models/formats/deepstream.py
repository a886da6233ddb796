"""ONNX for DeepStream-Yolo's parser `NvDsInferParseYolo`, as its main branch reads it since 2024.

The parser takes the first output, (B, N, 6) rows of x1, y1, x2, y2 in pixels of the network's
input, score and class; DeepStream suppresses (`cluster-mode=2`). The earlier parsers took centres,
or boxes, scores and classes as three outputs; they read other files. The parser was read, not run.
"""

from __future__ import annotations

from models.formats.format import Format, Preset
from models.runtimes.onnx_runner import ONNXRUNTIME

FORMAT = Format(
    name="DeepStream",
    presets=(
        Preset(
            name="deepstream", description="NVIDIA DeepStream with DeepStream-Yolo's parser",
            outputs="boxes with best class (B, N, 6), not suppressed", head="best",
            suffix="-deepstream.onnx", runtime=ONNXRUNTIME, not_run="DeepStream",
        ),
    ),
)  # fmt: skip
