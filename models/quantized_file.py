"""A network as an INT8 file, with what that costs in AP and gains in time."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.exported_file import FileRequest, Written, write_file
from utils.deploy.onnx_file import operator_counts
from utils.deploy.quantized_onnx import (
    LEAST_OBJECTNESS_VALUES,
    Layer,
    Pictures,
    objectness_values,
    quantize,
    worst_layers,
)
from utils.deploy.runner import OnnxRunner, Runner
from utils.deploy.sizes import Sizes
from utils.errors import CheckFailedError
from utils.timing import seconds_in_turn

Judge = Callable[[Runner], float]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What an INT8 file is made and judged with.

    Attributes:
        pictures: to calibrate on.
        few: to compare layers on.
        judge: AP of a file.
        methods: calibrations to try.
        max_drop: AP points that may be lost at most.
    """

    pictures: Pictures
    few: Pictures
    judge: Judge
    methods: Sequence[str]
    max_drop: float


@dataclass(frozen=True, slots=True)
class Quantized:
    """An INT8 file that was just written.

    Attributes:
        written: the file.
        AP: of the file.
        AP_float: of the float32 file it was made from.
        method: the calibration that did best.
        AP_of_method: every calibration that was tried.
        latency_ms: median of a run.
        latency_ratio: to the float32 file's, runs in turn.
        worst_layers: whose outputs lose most.
        objectness_values: how many different ones there are on a few pictures.
    """

    written: Written
    AP: float
    AP_float: float
    method: str
    AP_of_method: dict[str, float]
    latency_ms: float
    latency_ratio: float
    worst_layers: list[Layer]
    objectness_values: int

    def report(self) -> dict[str, Any]:
        """What the report of an export says beside what it says of every file."""
        return {
            "AP_float": self.AP_float,
            "calibration": {"method": self.method, "AP": self.AP_of_method},
            "latency_ratio": self.latency_ratio,
            "objectness_values": self.objectness_values,
            "worst_layers": [
                {"name": layer.name, "sqnr_db": layer.sqnr_db} for layer in self.worst_layers
            ],
        }


def write_quantized(place: Path, request: FileRequest, calibration: Calibration) -> Quantized:
    """Write an INT8 file: the best of several calibrations.

    Args:
        place: the file.
        request: what to write; its sizes are fixed.
        calibration: on what, and how good it must be.

    Raises:
        CheckFailedError: more is lost, or the scores are dead.
    """
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        source = Path(folder) / "float.onnx"
        written = write_file(source, "", request)
        AP_float = calibration.judge(written.runner)
        AP_of: dict[str, float] = {}
        for method in calibration.methods:
            trial = Path(folder) / f"{method}.onnx"
            quantize(source, trial, calibration.pictures, method)
            AP_of[method] = calibration.judge(OnnxRunner(trial, device="cpu"))
        best = max(AP_of, key=lambda name: AP_of[name])
        shutil.copyfile(Path(folder) / f"{best}.onnx", place)
        layers = worst_layers(source, place, calibration.few)
        runner = OnnxRunner(place, device="cpu")
        values = objectness_values(runner.run(picture) for picture in calibration.few())
        latency, ratio = _latency(runner, written.runner, request.sizes)
    _check(AP_float - AP_of[best], calibration.max_drop, values, layers)
    return Quantized(
        written=Written(runner, request.opset, operator_counts(place), "onnxruntime"),
        AP=AP_of[best],
        AP_float=AP_float,
        method=best,
        AP_of_method=AP_of,
        latency_ms=latency,
        latency_ratio=ratio,
        worst_layers=layers,
        objectness_values=values,
    )


def _check(lost: float, max_drop: float, values: int, layers: Sequence[Layer]) -> None:
    if values < LEAST_OBJECTNESS_VALUES:
        raise CheckFailedError(
            f"only {values} different objectness values are left; no file is left behind"
        )
    if not 100 * lost <= max_drop:
        names = ", ".join(f"{layer.name} {layer.sqnr_db:.0f} dB" for layer in layers[:3])
        raise CheckFailedError(
            f"INT8 loses {100 * lost:.1f} AP, more than --max-drop {max_drop:g} (worst layers: "
            f"{names}); no file is left behind. More --calibration-images, QARepVGG blocks or "
            "LeakyReLU may help"
        )


def _latency(runner: Runner, other: Runner, sizes: Sizes) -> tuple[float, float]:
    """Median milliseconds of a run, and the median ratio to another's runs, taken in turn."""
    images = np.zeros((sizes.batch_size, 3, *sizes.input_hw), np.float32)
    found = seconds_in_turn(
        {"mine": lambda: runner.run(images), "other": lambda: other.run(images)}
    )
    ratios = [mine / base for mine, base in zip(found["mine"], found["other"], strict=True)]
    return statistics.median(found["mine"]) * 1000, statistics.median(ratios)
