"""The report's keys are those that programs read; None is left where nothing was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from models.export.column_errors import ColumnErrors
from models.export.export_result import (
    CalibrationResult,
    ExportedFile,
    ExportResult,
    QuantizationResult,
)
from models.formats.npu_layers import NpuLayer, NpuLayers
from models.quantization.quantized_onnx import Layer
from models.runtimes.input_sizes import InputSizes
from utils.metrics.paired_bootstrap import Interval

ERRORS = ColumnErrors(0.1, 0.2, 0.3, 0.4)
FLOAT_KEYS = [
    "path", "preset", "bytes", "opset", "operators", "max_rel_error", "latency_ms", "AP",
    "verified", "sizes", "max_rel_error_elsewhere",
]  # fmt: skip
INT8_KEYS = [
    "calibration", "latency_ratio", "AP_float", "AP_difference", "objectness_values",
    "worst_layers",
]  # fmt: skip


def file_with(quantization: QuantizationResult | None = None) -> ExportedFile:
    return ExportedFile(
        path=Path("w.onnx"), preset="onnx", num_bytes=7, opset=17, operators={"Conv": 3},
        errors=ERRORS, latency_ms=1.5, AP=None, verified="onnxruntime, CPU",
        sizes=InputSizes((64, 96), 2, ("batch",)), second_errors={"Odd": ERRORS},
        quantization=quantization,
    )  # fmt: skip


def quantization_with(npu_layers: NpuLayers | None = None) -> QuantizationResult:
    return QuantizationResult(
        calibration=CalibrationResult("minmax", {"minmax": 0.5}, 9, "ab"),
        latency_ratio=0.5,
        AP_float=0.6,
        AP_difference=Interval(-0.2, 0.0, -0.1),
        objectness_values=99,
        worst_layers=(Layer("conv", 8.5),),
        npu_layers=npu_layers,
    )


@pytest.mark.parametrize(("AP", "tells"), [(0.6, True), (0.1, True), (0.022, False)])
def test_a_loss_is_not_claimed_where_the_float_file_finds_nothing(AP, tells):
    """-0.1 points of 2.2 say nothing of 8 bits."""
    text = replace(quantization_with(), AP_float=AP).as_text()
    assert ("points from float32" in text) == tells
    assert ("too little AP to tell" in text) != tells


def test_report_of_a_float_file():
    report = ExportResult((file_with(),)).as_report()
    assert list(report) == ["files"]
    (entry,) = report["files"]
    assert list(entry) == FLOAT_KEYS
    assert entry["path"] == "w.onnx" and entry["bytes"] == 7
    assert entry["max_rel_error"] == {"xy": 0.1, "wh": 0.2, "objectness": 0.3, "class": 0.4}
    assert list(entry["max_rel_error"]) == ["xy", "wh", "objectness", "class"]
    assert entry["sizes"] == {"input_hw": (64, 96), "batch_size": 2, "dynamic": ("batch",)}
    assert entry["max_rel_error_elsewhere"]["Odd"] == entry["max_rel_error"]
    json.dumps(report)


def test_report_of_an_8_bit_file():
    entry = file_with(quantization_with()).as_report()
    assert list(entry) == [*FLOAT_KEYS, *INT8_KEYS]
    calibration = {"method": "minmax", "AP": {"minmax": 0.5}, "pictures": 9, "sha256": "ab"}
    assert entry["calibration"] == calibration
    assert entry["AP_difference"] == {"low": -0.2, "high": 0.0, "difference": -0.1}
    assert entry["worst_layers"] == [{"name": "conv", "sqnr_db": 8.5}]


def test_report_of_a_compiled_file():
    layers = NpuLayers(
        (NpuLayer("Conv", "NPU", 100, 512, "a"), NpuLayer("Out", "CPU", 0, 512, "b"))
    )
    entry = file_with(quantization_with(layers)).as_report()
    assert list(entry) == [*FLOAT_KEYS, *INT8_KEYS, "npu"]
    assert {key: entry["npu"][key] for key in ("layers", "cycles", "read_and_written_mb")} == {
        "layers": 2, "cycles": 100, "read_and_written_mb": 1.0,
    }  # fmt: skip
    assert list(entry["npu"]["table"][0]) == ["operator", "target", "cycles", "kilobytes", "name"]


def test_text_of_an_8_bit_file():
    text = quantization_with(NpuLayers(())).as_text()
    assert text == (
        "-10.0 points from float32's 0.6000 (95 % between -20.0 and +0.0; minmax), "
        "0.50 of the float32 file's time, 0 layers, 0 cycles"
    )
