"""The formats: one row each. A new one is a module of this package and a row here."""

from __future__ import annotations

from collections.abc import Mapping

from models.formats import (
    ascend,
    axera,
    checkpoint,
    deepstream,
    hailo,
    horizon,
    ncnn,
    onnx,
    opencv,
    openvino,
    qdq,
    qnn,
    rknn,
    sigmoid_maps,
    tensorrt,
    torchscript,
    ultralytics,
)
from models.formats.format import Format, Preset

FORMATS: tuple[Format, ...] = (
    checkpoint.FORMAT,
    onnx.FORMAT,
    ultralytics.FORMAT,
    torchscript.FORMAT,
    openvino.FORMAT,
    ncnn.FORMAT,
    opencv.FORMAT,
    qdq.FORMAT,
    qnn.FORMAT,
    tensorrt.FORMAT,
    deepstream.FORMAT,
    rknn.FORMAT,
    sigmoid_maps.FORMAT,
    hailo.FORMAT,
    horizon.FORMAT,
    ascend.FORMAT,
    axera.FORMAT,
)
PRESETS: Mapping[str, Preset] = {preset.name: preset for each in FORMATS for preset in each.presets}
