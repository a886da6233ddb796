"""Which kinds of files export.py writes, and what is allowed in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Head = Literal["decoded", "raw", "sigmoid", "e2e"]
FileKind = Literal["onnx", "torchscript", "openvino", "ncnn", "rknn"]
Numbers = Literal["u8", "s8", "u16"]

# What accelerators' compilers take: no shapes that are computed, nothing beyond four dimensions.
NPU_OPERATORS = frozenset(
    ("Conv", "Relu", "LeakyRelu", "Clip", "HardSwish", "Sigmoid", "Mul", "Add", "Concat", "MaxPool",
     "Resize")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class QdqForm:
    """How an ONNX file says what is rounded: pairs of QuantizeLinear and DequantizeLinear.

    Attributes:
        activations: whole numbers that activations become; weights are always signed 8-bit ones.
        symmetric: the zero of activations is 0.
        per_channel: weights have a scale per output channel.
        rounded_bias: biases become 32-bit numbers.
    """

    activations: Numbers = "u8"
    symmetric: bool = False
    per_channel: bool = True
    rounded_bias: bool = True


U8S8 = QdqForm()  # x86 processors, onnxruntime, OpenVINO, QNN
U16S8 = QdqForm("u16")  # QNN where 8 bits lose too much
S8S8 = QdqForm("s8", symmetric=True, rounded_bias=False)  # TensorRT


@dataclass(frozen=True, slots=True)
class Preset:
    """A kind of file.

    Attributes:
        words: for whom it is.
        head: `decoded` boxes, `raw` maps of logits, or `e2e`, boxes after suppression.
        kind: of the file.
        suffix: what it is called after the checkpoint's name.
        opset: the ONNX operator set it is written with by default.
        opsets: those it may be written with.
        operators: all that may be in the graph; None for any.
        forbidden: operators that must not be in it.
        dynamic: sizes may change from run to run.
        tolerance: largest relative error of any column group against PyTorch.
        quantized: the file computes in 8 bits.
    """

    words: str
    head: Head
    kind: FileKind
    suffix: str
    opset: int = 17
    opsets: range = range(11, 21)
    operators: frozenset[str] | None = None
    forbidden: frozenset[str] = frozenset(("BatchNormalization",))
    dynamic: bool = True
    tolerance: float = 1e-4
    quantized: bool = False

    @property
    def writes_folder(self) -> bool:
        """Whether it takes several files."""
        return self.kind in ("openvino", "ncnn")


PRESETS: Mapping[str, Preset] = {
    "onnx": Preset("programs that read ONNX", "decoded", "onnx", ".onnx"),
    "e2e": Preset(
        "programs without suppression of their own", "e2e", "onnx", "-e2e.onnx"
    ),
    "opencv4": Preset(
        "OpenCV's DNN module, 4.x too", "decoded", "onnx", "-opencv4.onnx",
        opset=12, opsets=range(12, 13), forbidden=frozenset(("BatchNormalization", "Split")),
        dynamic=False,
    ),
    "npu": Preset(
        "compilers of accelerators", "raw", "onnx", "-npu.onnx",
        opset=12, opsets=range(11, 14), operators=NPU_OPERATORS, dynamic=False,
    ),
    "qdq-u8": Preset(
        "8 bits on x86 processors", "raw", "onnx", "-int8.onnx",
        opset=13, opsets=range(13, 21), operators=NPU_OPERATORS, dynamic=False, quantized=True,
    ),
    "torchscript": Preset("libtorch", "decoded", "torchscript", ".torchscript", dynamic=False),
    "ncnn": Preset("ncnn on phones and boards", "raw", "ncnn", "_ncnn_model", dynamic=False),
    "openvino": Preset("OpenVINO on Intel", "decoded", "openvino", "_openvino_model",
                       tolerance=2e-2),  # weights in float16
}  # fmt: skip
