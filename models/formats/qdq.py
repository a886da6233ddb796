"""8-bit ONNX files with pairs of QuantizeLinear and DequantizeLinear (QDQ), for x86 processors.

Written by onnxruntime's quantizer from the float32 ONNX file (models/quantization), the head's
convolutions in float32; run by onnxruntime.
"""

from __future__ import annotations

from pathlib import Path

from models.formats.format import (
    NPU_OPERATORS,
    Format,
    NetworkFile,
    Preset,
    Quantization,
    QuantizedNetwork,
)
from models.quantization.qdq_scheme import U8S8, U16S8
from models.quantization.quantized_onnx import quantize
from models.runtimes.onnx_runner import ONNXRUNTIME, OnnxRunner

QDQ_OPSETS = range(13, 21)  # scales per channel came with 13
OPSET_OF_16_BITS = 21


def write_qdq(source: NetworkFile, path: Path, method: str) -> QuantizedNetwork:
    """Calibrate on the images and write the 8-bit file.

    Args:
        source: the float32 ONNX file, the scheme of its preset, and the images.
        path: where to write.
        method: of models.quantization.quantized_onnx.METHODS.

    Raises:
        ValueError: the preset is not for such files, or there are no images.
    """
    quantization = source.preset.quantization
    if quantization is None or quantization.scheme is None or source.images is None:
        raise ValueError(f"{source.preset.name}: has no scheme, or no images to calibrate on")
    quantize(source.path, path, source.images, method, quantization.scheme)
    return QuantizedNetwork(OnnxRunner(path, device="cpu"))


FORMAT = Format(
    name="8-bit ONNX",
    presets=(
        Preset(
            name="qdq-u8", description="8 bits on x86 processors and phones",
            outputs="raw maps, 8 bits, float32 head", head="raw", suffix="-int8.onnx",
            runtime=ONNXRUNTIME, opset=13, opsets=QDQ_OPSETS, operators=NPU_OPERATORS,
            dynamic=False, quantization=Quantization(write_qdq, scheme=U8S8),
        ),
        Preset(
            name="qdq-u16", description="8-bit weights, 16-bit activations",
            outputs="raw maps, 16-bit activations, float32 head", head="raw", suffix="-u16.onnx",
            runtime=ONNXRUNTIME, opset=OPSET_OF_16_BITS,
            opsets=range(OPSET_OF_16_BITS, OPSET_OF_16_BITS + 1), operators=NPU_OPERATORS,
            dynamic=False, quantization=Quantization(write_qdq, scheme=U16S8),
        ),
    ),
)  # fmt: skip
