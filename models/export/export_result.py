"""What export.py found of the files it wrote."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.export.column_errors import ColumnErrors
from models.formats.npu_layers import NpuLayers
from models.quantization.quantized_onnx import Layer
from models.runtimes.input_sizes import InputSizes
from utils.logs import counted
from utils.metrics.coco import MIN_MEANINGFUL_AP
from utils.metrics.paired_bootstrap import Interval


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """How the 8-bit file was made.

    Attributes:
        method: the calibration and the techniques of the best file.
        AP: of every file that was tried, by its calibration and techniques.
        num_images: calibrated on.
        sha256: of those images' files.
    """

    method: str
    AP: Mapping[str, float]
    num_images: int
    sha256: str


@dataclass(frozen=True, slots=True)
class QuantizationResult:
    """What 8 bits cost and gain.

    Attributes:
        calibration: how the file was made.
        latency_ratio: median time of a run over the float32 file's; None in a simulator.
        AP_float: of the float32 file it was made from.
        AP_difference: to that, with its interval.
        objectness_values: how many different ones there are on a few images.
        worst_layers: those with the least signal to noise, of ONNX files.
        npu_layers: what the compiler says of its layers; None where it says nothing.
    """

    calibration: CalibrationResult
    latency_ratio: float | None
    AP_float: float
    AP_difference: Interval
    objectness_values: int
    worst_layers: tuple[Layer, ...]
    npu_layers: NpuLayers | None = None

    def as_text(self) -> str:
        """One line for people."""
        between = self.AP_difference
        ratio = self.latency_ratio
        difference = (
            f"{100 * between.difference:+.1f} points from float32's {self.AP_float:.4f} "
            f"(95 % between {100 * between.low:+.1f} and {100 * between.high:+.1f}; "
            f"{self.calibration.method})"
        )
        if self.AP_float < MIN_MEANINGFUL_AP:
            difference = (
                f"too little AP to tell what 8 bits lose: float32 has {self.AP_float:.4f} "
                f"({self.calibration.method})"
            )
        parts = [
            difference,
            *([] if ratio is None else [f"{ratio:.2f} of the float32 file's time"]),
        ]
        if self.npu_layers is not None:
            layers = counted(len(self.npu_layers.layers), "layer")
            parts.append(f"{layers}, {self.npu_layers.cycles:,} cycles")
        return ", ".join(parts)

    def as_report(self) -> dict[str, Any]:
        """JSON values."""
        report = {
            "calibration": {
                "method": self.calibration.method,
                "AP": dict(self.calibration.AP),
                "pictures": self.calibration.num_images,  # the key of earlier reports
                "sha256": self.calibration.sha256,
            },
            "latency_ratio": self.latency_ratio,
            "AP_float": self.AP_float,
            "AP_difference": dataclasses.asdict(self.AP_difference),
            "objectness_values": self.objectness_values,
            "worst_layers": [dataclasses.asdict(layer) for layer in self.worst_layers],
        }
        return report if self.npu_layers is None else {**report, "npu": self.npu_layers.as_report()}


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A file that was written and verified.

    Attributes:
        path: of the file or folder.
        preset: its name.
        num_bytes: of all its files.
        opset: of the ONNX file it is or holds; None where there is none.
        operators: how many nodes of each that has.
        errors: against PyTorch.
        latency_ms: median of a run; None in a simulator.
        AP: on the val split; None without `--data`.
        verified: where it was run, and what was not run.
        sizes: of its input.
        second_errors: against PyTorch in second runtimes, by their names.
        quantization: what 8 bits cost and gain; None for float files.
    """

    path: Path
    preset: str
    num_bytes: int
    opset: int | None
    operators: Mapping[str, int]
    errors: ColumnErrors
    latency_ms: float | None
    AP: float | None
    verified: str
    sizes: InputSizes
    second_errors: Mapping[str, ColumnErrors]
    quantization: QuantizationResult | None = None

    def as_report(self) -> dict[str, Any]:
        """JSON values."""
        report = {
            "path": str(self.path),
            "preset": self.preset,
            "bytes": self.num_bytes,
            "opset": self.opset,
            "operators": dict(self.operators),
            "max_rel_error": self.errors.by_name(),
            "latency_ms": self.latency_ms,
            "AP": self.AP,
            "verified": self.verified,
            "sizes": dataclasses.asdict(self.sizes),
            "max_rel_error_elsewhere": {
                runtime: errors.by_name() for runtime, errors in self.second_errors.items()
            },
        }
        return {**report, **self.quantization.as_report()} if self.quantization else report


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The files of one run, in the order of the presets.

    Attributes:
        files: that were written.
        example: an image to try them on; None without `--data`.
    """

    files: tuple[ExportedFile, ...]
    example: Path | None = None

    def as_report(self) -> dict[str, Any]:
        """JSON values."""
        return {"files": [file.as_report() for file in self.files]}
