"""A network as an 8-bit file, with what that costs in AP and gains in time."""

from __future__ import annotations

import dataclasses
import logging
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.exported_file import FileRequest, Written, write_file
from models.quantizers import Trial, move_into, quantizer_of
from utils.deploy.calibration_pictures import Pictures
from utils.deploy.onnx_file import operator_counts
from utils.deploy.quantized_onnx import (
    LEAST_OBJECTNESS_VALUES,
    Layer,
    objectness_values,
    worst_layers,
)
from utils.deploy.runner import Runner
from utils.deploy.sizes import Sizes
from utils.errors import CheckFailedError
from utils.metrics.paired_bootstrap import JudgedPictures, ap_difference_interval
from utils.timing import seconds_in_turn

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Judged:
    """How good a file is on the user's pictures.

    Attributes:
        AP: COCO's.
        pictures: what it found on each, for paired comparisons.
    """

    AP: float
    pictures: JudgedPictures


Judge = Callable[[Runner], Judged]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What an 8-bit file is made and judged with.

    Attributes:
        pictures: to calibrate on.
        few: to compare layers on.
        judge: AP of a file.
        methods: calibrations to try, where there is a choice.
        max_drop: AP points that may be lost at most.
    """

    pictures: Pictures
    few: Pictures
    judge: Judge
    methods: Sequence[str]
    max_drop: float


@dataclass(frozen=True, slots=True)
class Quantized:
    """An 8-bit file that was just written.

    Attributes:
        written: the file.
        AP: of the file.
        AP_float: of the float32 file it was made from.
        latency_ms: median of a run; None where the runtime is a simulator.
        facts: what else the report should say.
    """

    written: Written
    AP: float
    AP_float: float
    latency_ms: float | None
    facts: dict[str, Any]


def write_quantized(
    place: Path, name: str, request: FileRequest, calibration: Calibration
) -> Quantized:
    """Write an 8-bit file: the best of several calibrations.

    Args:
        place: the file, or the folder for presets that write several.
        name: stem of files in a folder.
        request: what to write; its sizes are fixed.
        calibration: on what, and how good it must be.

    Raises:
        CheckFailedError: more is lost, or the scores are dead.
        MissingPackageError: the tool for this kind of file is not installed.
    """
    preset = request.preset
    quantizer = quantizer_of(preset, name, request.metadata, calibration.methods)
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        source = Path(folder) / "float.onnx"
        floats = write_file(source, "", replace(request, preset=replace(preset, kind="onnx")))
        before = calibration.judge(floats.runner)
        judged: dict[str, Judged] = {}
        trials: dict[str, tuple[Path, Trial]] = {}
        for method in quantizer.methods:
            made = Path(folder) / (f"{method}{preset.suffix}")
            if preset.writes_folder:
                made.mkdir()
            trial = quantizer.make(source, made, calibration.pictures, method)
            judged[method] = calibration.judge(trial.runner)
            trials[method] = made, trial
            logger.info("%s: AP %.4f (float32 %.4f)", method, judged[method].AP, before.AP)
        best = max(judged, key=lambda method: judged[method].AP)
        made, trial = trials[best]
        layers = worst_layers(source, made, calibration.few) if preset.form else []
        values = objectness_values(trial.runner.run(picture) for picture in calibration.few())
        _check(before.AP - judged[best].AP, calibration.max_drop, values, layers)
        latency, ratio = None, None
        if preset.kind != "rknn":  # a simulator's time says nothing of the chip
            latency, ratio = _latency(trial.runner, floats.runner, request.sizes)
        move_into(place, made)
    is_onnx = preset.kind == "onnx"
    operators, opset = (operator_counts(place), request.opset) if is_onnx else ({}, None)
    return Quantized(
        written=Written(trial.runner, opset, operators, trial.tested_in),
        AP=judged[best].AP,
        AP_float=before.AP,
        latency_ms=latency,
        facts={
            "AP_float": before.AP,
            "AP_difference": dataclasses.asdict(
                ap_difference_interval(before.pictures, judged[best].pictures)
            ),
            "calibration": {"method": best, "AP": {name: each.AP for name, each in judged.items()}},
            "latency_ratio": ratio,
            "objectness_values": values,
            "worst_layers": [{"name": each.name, "sqnr_db": each.sqnr_db} for each in layers],
            **trial.facts,
        },
    )


def _check(lost: float, max_drop: float, values: int, layers: Sequence[Layer]) -> None:
    if values < LEAST_OBJECTNESS_VALUES:
        raise CheckFailedError(
            f"only {values} different objectness values are left; no file is left behind"
        )
    if not 100 * lost <= max_drop:
        worst = ", ".join(f"{layer.name} {layer.sqnr_db:.0f} dB" for layer in layers[:3])
        where = f" (worst layers: {worst})" if worst else ""
        raise CheckFailedError(
            f"8 bits lose {100 * lost:.1f} AP, more than --max-drop {max_drop:g}{where}; no file "
            "is left behind. More --calibration-images, QARepVGG blocks or LeakyReLU may help"
        )


def _latency(runner: Runner, other: Runner, sizes: Sizes) -> tuple[float, float]:
    """Median milliseconds of a run, and the median ratio to another's runs, taken in turn."""
    images = np.zeros((sizes.batch_size, 3, *sizes.input_hw), np.float32)
    found = seconds_in_turn(
        {"mine": lambda: runner.run(images), "other": lambda: other.run(images)}
    )
    ratios = [mine / base for mine, base in zip(found["mine"], found["other"], strict=True)]
    return statistics.median(found["mine"]) * 1000, statistics.median(ratios)
