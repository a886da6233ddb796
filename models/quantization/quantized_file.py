"""A network as an 8-bit file, with what that costs in AP and gains in time."""

from __future__ import annotations

import dataclasses
import logging
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.export.exported_file import FileRequest, Written, expected_of, write_file
from models.export.onnx_checks import check_structure
from models.export.onnx_file import NEWEST_OPSET, operator_counts
from models.export.second_runtimes import second_runtimes
from models.export.sizes import Sizes
from models.quantization.calibration import Calibration, Candidate, Evaluated
from models.quantization.quantized_onnx import (
    MIN_OBJECTNESS_VALUES,
    Layer,
    objectness_values,
    worst_layers,
)
from models.quantization.quantizers import move_into, quantizer_of
from models.quantization.remedies import apply_remedy
from models.runtimes.runner import OnnxRunner, Runner
from utils.errors import CheckFailedError, DivergedError
from utils.metrics.paired_bootstrap import ap_difference_interval
from utils.timing import seconds_in_turn

logger = logging.getLogger(__name__)


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
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        source, opset = Path(folder) / "float.onnx", min(request.opset, NEWEST_OPSET)
        floats = write_file(
            source, "", replace(request, preset=replace(preset, kind="onnx"), opset=opset)
        )
        before = calibration.evaluate(floats.runner)
        tried = _candidates(source, name, request, calibration, before)
        best = max(tried, key=lambda candidate: candidate.evaluated.AP)
        facts = _checked(best, before, calibration)
        latency, ratio = None, None
        if preset.kind != "rknn":  # a simulator's time says nothing of the chip
            latency, ratio = _latency(best.trial.runner, floats.runner, request.sizes)
        written = _written(best, request)
        move_into(place, best.file)
    AP_of = {candidate.name: candidate.evaluated.AP for candidate in tried}
    calibrated = {"method": best.name, "AP": AP_of}
    return Quantized(
        written=written,
        AP=best.evaluated.AP,
        AP_float=before.AP,
        latency_ms=latency,
        facts={"calibration": calibrated, "latency_ratio": ratio, **facts, **best.trial.facts},
    )


def _checked(best: Candidate, before: Evaluated, calibration: Calibration) -> dict[str, Any]:
    """What the report says of what is lost.

    Raises:
        CheckFailedError: it is too much.
    """
    is_onnx, few = isinstance(best.trial.runner, OnnxRunner), calibration.few
    layers = worst_layers(best.source, best.file, few) if is_onnx else []
    values = objectness_values(best.trial.runner.run(image) for image in few())
    _check(before.AP - best.evaluated.AP, calibration.max_drop, values, layers)
    interval = ap_difference_interval(before.images, best.evaluated.images)
    return {
        "AP_float": before.AP,
        "AP_difference": dataclasses.asdict(interval),
        "objectness_values": values,
        "worst_layers": [{"name": each.name, "sqnr_db": each.sqnr_db} for each in layers],
    }


def _written(best: Candidate, request: FileRequest) -> Written:
    """The best file, checked where it is ONNX."""
    trial, preset = best.trial, request.preset
    if preset.form is None:
        return Written(trial.runner, None, {}, trial.tested_in)
    check_structure(best.file, preset, expected_of(request))
    others = second_runtimes(best.file, preset, request.sizes, request.opset, request.metadata)
    operators = operator_counts(best.file)
    return Written(trial.runner, request.opset, operators, trial.tested_in, others)


def _candidates(
    source: Path, name: str, request: FileRequest, calibration: Calibration, before: Evaluated
) -> list[Candidate]:
    """A file of each calibration, and of each remedy on the best one until then."""
    preset, tried = request.preset, []
    quantizer = quantizer_of(preset, name, request.metadata, calibration.methods)
    for method in quantizer.methods:
        made = source.with_name(f"{method}{preset.suffix}")
        if preset.writes_folder:
            made.mkdir()
        trial = quantizer.make(source, made, calibration.images, method)
        evaluated = calibration.evaluate(trial.runner)
        found = Candidate(method, method, request.detector, source, made, trial, evaluated)
        tried.append(_said(found, before))
    if preset.form is None:
        return tried
    for remedy in calibration.remedies:
        best = max(tried, key=lambda candidate: candidate.evaluated.AP)
        try:
            found = apply_remedy(remedy, best, request, preset.form, calibration)
        except DivergedError as error:  # the files before it are good
            logger.warning("--remedy %s: %s; left out", remedy, error)
        else:
            tried.append(_said(found, before))
    return tried


def _said(candidate: Candidate, before: Evaluated) -> Candidate:
    """The candidate, after saying what it is worth."""
    logger.info("%s: AP %.4f (float32 %.4f)", candidate.name, candidate.evaluated.AP, before.AP)
    return candidate


def _check(lost: float, max_drop: float, values: int, layers: Sequence[Layer]) -> None:
    if values < MIN_OBJECTNESS_VALUES:
        raise CheckFailedError(
            f"only {values} different objectness values are left; no file is left behind"
        )
    if not 100 * lost <= max_drop:
        worst = ", ".join(f"{layer.name} {layer.sqnr_db:.0f} dB" for layer in layers[:3])
        where, remedy = (f" (worst layers: {worst})", "--remedy bias, ") if worst else ("", "")
        raise CheckFailedError(
            f"8 bits lose {100 * lost:.1f} AP, more than --max-drop {max_drop:g}{where}; no file "
            f"is left behind. {remedy}more --calibration-images or training longer may help"
        )


def _latency(runner: Runner, other: Runner, sizes: Sizes) -> tuple[float, float]:
    """Median milliseconds of a run, and the median ratio to another's runs, taken in turn."""
    images = np.zeros((sizes.batch_size, 3, *sizes.input_hw), np.float32)
    found = seconds_in_turn(
        {"mine": lambda: runner.run(images), "other": lambda: other.run(images)}
    )
    ratios = [mine / base for mine, base in zip(found["mine"], found["other"], strict=True)]
    return statistics.median(found["mine"]) * 1000, statistics.median(ratios)
