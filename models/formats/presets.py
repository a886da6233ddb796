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
        head: `decoded` boxes, `raw` maps of logits, `sigmoid`, the same as probabilities, or `e2e`,
            boxes after suppression.
        kind: of the file.
        suffix: what it is called after the checkpoint's name.
        opset: the ONNX operator set it is written with by default.
        opsets: those it may be written with.
        operators: all that may be in the graph; None for any.
        forbidden: operators that must not be in it.
        dynamic: sizes may change from run to run.
        tolerance: largest relative error of any column group against PyTorch.
        quantized: the file computes in 8 bits.
        form: which whole numbers, where onnxruntime's quantizer writes them.
        half: the network computes in float16, and boxes are decoded in float32; of OpenVINO's
            files only the weights are float16.
        rows_last: raw maps are (B, H, W, channels).
        vendor: whose compiler gets files beside the network (models.formats.vendor_files).
        unseen: what else has to happen to the file, which is not done here.
        command: what the vendor's tool is given; `{file}` is the file's path.
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
    form: QdqForm | None = None
    half: bool = False
    rows_last: bool = False
    vendor: str = ""
    unseen: str = ""
    command: str = ""

    @property
    def half_input(self) -> bool:
        """Whether the file takes float16 images."""
        return self.half and self.kind == "onnx"

    @property
    def writes_folder(self) -> bool:
        """Whether it takes several files."""
        return self.kind in ("openvino", "ncnn", "rknn") or bool(self.vendor)


_NPU_OPSETS = range(11, 14)
_QDQ_OPSETS = range(13, 21)  # scales per channel came with 13

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
        opset=12, opsets=_NPU_OPSETS, operators=NPU_OPERATORS, dynamic=False,
    ),
    "torchscript": Preset("libtorch", "decoded", "torchscript", ".torchscript", dynamic=False),
    "ncnn": Preset("ncnn on phones and boards", "raw", "ncnn", "_ncnn_model", dynamic=False),
    "openvino": Preset("OpenVINO on Intel", "decoded", "openvino", "_openvino_model"),
    "qdq-u8": Preset(
        "8 bits on x86 processors, QNN", "raw", "onnx", "-int8.onnx", opset=13,
        opsets=_QDQ_OPSETS, operators=NPU_OPERATORS, dynamic=False, quantized=True, form=U8S8,
    ),
    "qdq-u16": Preset(
        "QNN: 16-bit activations", "raw", "onnx", "-u16.onnx", opset=21,
        opsets=range(21, 22), operators=NPU_OPERATORS, dynamic=False, quantized=True, form=U16S8,
    ),
    "openvino-int8": Preset(
        "OpenVINO on Intel, 8 bits", "raw", "openvino", "_int8_openvino_model", opset=13,
        operators=NPU_OPERATORS, dynamic=False, quantized=True,
    ),
    "trt10": Preset(
        "TensorRT up to 10, Jetson", "decoded", "onnx", "-trt10.onnx",
        unseen="TensorRT", command="trtexec --onnx={file} --fp16 --saveEngine={stem}.engine",
    ),
    "trt11-fp16": Preset(
        "TensorRT 11: float16 in the file", "decoded", "onnx", "-trt11-fp16.onnx", half=True,
        tolerance=2e-2, unseen="TensorRT",
        command="trtexec --onnx={file} --saveEngine={stem}.engine",
    ),
    "trt11-int8": Preset(
        "TensorRT 11: 8 bits in the file", "raw", "onnx", "-trt11-int8.onnx", opsets=_QDQ_OPSETS,
        operators=NPU_OPERATORS, dynamic=False, quantized=True, form=S8S8,
        unseen="TensorRT", command="trtexec --onnx={file} --saveEngine={stem}.engine",
    ),
    "rknn": Preset(
        "Rockchip RK3588", "sigmoid", "rknn", "_rknn_model", opset=12, opsets=range(11, 20),
        operators=NPU_OPERATORS, dynamic=False, quantized=True,
    ),
    "hailo": Preset(
        "Hailo-8, -10, -15", "raw", "onnx", "_hailo_model", opset=11, opsets=_NPU_OPSETS,
        operators=NPU_OPERATORS, dynamic=False, vendor="hailo",
        unseen="Hailo's compiler",
    ),
    "horizon": Preset(
        "Horizon and D-Robotics X3, X5", "raw", "onnx", "_horizon_model", opset=11,
        opsets=range(11, 12), operators=NPU_OPERATORS | {"Transpose"}, dynamic=False,
        rows_last=True, vendor="horizon", unseen="Horizon's compiler",
    ),
    "ascend": Preset(
        "Huawei Ascend 310", "raw", "onnx", "_ascend_model", opset=11, opsets=_NPU_OPSETS,
        operators=NPU_OPERATORS, dynamic=False, vendor="ascend",
        unseen="Huawei's ATC",
    ),
    "axera": Preset(
        "Axera AX650, AX630C", "raw", "onnx", "_axera_model", opset=12, opsets=_NPU_OPSETS,
        operators=NPU_OPERATORS, dynamic=False, vendor="axera",
        unseen="Axera's Pulsar2",
    ),
}  # fmt: skip
