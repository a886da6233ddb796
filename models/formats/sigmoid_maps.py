"""ONNX that ends in maps of probabilities: the head of Rockchip's demos, without its toolkit.

For toolkits and chips other than the one that models/formats/rknn.py compiles for: their compilers
take the ONNX file, and the demos' postprocessing reads the maps and the anchors of the metadata.
The network takes 0-1: `config(mean_values=[[0, 0, 0]], std_values=[[255, 255, 255]])`.
"""

from __future__ import annotations

from models.formats.format import NPU_OPERATORS, Format, Preset
from models.formats.onnx import NPU_OPSETS
from models.runtimes.onnx_runner import ONNXRUNTIME

FORMAT = Format(
    name="Probability maps",
    presets=(
        Preset(
            name="sigmoid", description="Rockchip's other chips, and demos of that head",
            outputs="probabilities `p3`, `p4`, `p5`", head="sigmoid", suffix="-sigmoid.onnx",
            runtime=ONNXRUNTIME, opset=12, opsets=NPU_OPSETS, operators=NPU_OPERATORS,
            dynamic=False,
        ),
    ),
)  # fmt: skip
