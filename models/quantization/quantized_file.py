"""A network as an 8-bit file, with what that costs in AP and gains in time."""

from __future__ import annotations

import logging
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from models.export.export_result import CalibrationResult, QuantizationResult
from models.export.exported_file import (
    FileRequest,
    WrittenFile,
    expected_of,
    float_request,
    network_file,
    write_file,
)
from models.export.onnx_file import NEWEST_OPSET, check_structure
from models.formats.format import Quantization
from models.quantization.calibration import Calibration, Candidate, Evaluated
from models.quantization.qdq_scheme import QdqScheme
from models.quantization.quantized_onnx import (
    MIN_OBJECTNESS_VALUES,
    Layer,
    objectness_values,
    worst_layers,
)
from models.quantization.techniques import apply_technique
from models.runtimes.input_sizes import InputSizes
from models.runtimes.runner import Runner
from utils.errors import CheckFailedError, DivergedError
from utils.metrics.coco import MIN_MEANINGFUL_AP
from utils.metrics.paired_bootstrap import ap_difference_interval
from utils.timing import seconds_in_turn

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class QuantizedFile:
    """An 8-bit file that was just written.

    Attributes:
        written: the file.
        AP: of the file.
        latency_ms: median of a run; None where the runtime is a simulator.
        result: what 8 bits cost and gain.
    """

    written: WrittenFile
    AP: float
    latency_ms: float | None
    result: QuantizationResult


def write_quantized(path: Path, request: FileRequest, calibration: Calibration) -> QuantizedFile:
    """Write an 8-bit file: the best of several calibrations.

    Args:
        path: the file, or the folder for presets that write several.
        request: what to write; its sizes are fixed.
        calibration: on what, and how good it must be.

    Raises:
        CheckFailedError: more is lost, or the scores are dead.
        MissingPackageError: the tool for this kind of file is not installed.
        ValueError: the preset is one of float files.
    """
    quantization = request.preset.quantization
    if quantization is None:
        raise ValueError(f"{request.preset.name}: does not compute in 8 bits")
    scheme, request = quantization.scheme, replace(request, images=calibration.images)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        source, opset = Path(folder) / "float.onnx", min(request.opset, NEWEST_OPSET)
        floats = write_file(source, float_request(replace(request, opset=opset)))
        before = calibration.evaluate(floats.runner)
        tried = _calibrated(source, request, quantization, calibration, before)
        if scheme is not None:
            tried = _improved(tried, request, scheme, calibration, before)
        best = max(tried, key=lambda candidate: candidate.evaluated.AP)
        result = _result(best, tried, before, calibration, is_onnx=scheme is not None)
        latency_ms = None
        if not request.preset.runtime.simulated:
            latency_ms, ratio = _latency(best.network.runner, floats.runner, request.sizes)
            result = replace(result, latency_ratio=ratio)
        if scheme is not None:
            check_structure(best.file, request.preset, expected_of(request))
        _move_into(path, best.file)
    written = WrittenFile(best.network.runner)
    if scheme is not None:
        written = WrittenFile.of_onnx(best.network.runner, network_file(path, request))
    return QuantizedFile(written, best.evaluated.AP, latency_ms, result)


def _calibrated(
    source: Path,
    request: FileRequest,
    quantization: Quantization,
    calibration: Calibration,
    before: Evaluated,
) -> list[Candidate]:
    """A file of each calibration method."""
    preset, tried = request.preset, []
    for method in quantization.methods or calibration.methods:
        path = source.with_name(f"{method}{preset.suffix}")
        if preset.is_folder:
            path.mkdir()
        network = quantization.write(network_file(source, request), path, method)
        evaluated = calibration.evaluate(network.runner)
        candidate = Candidate(method, method, request.detector, source, path, network, evaluated)
        _log_AP(candidate, before)
        tried.append(candidate)
    return tried


def _improved(
    tried: list[Candidate],
    request: FileRequest,
    scheme: QdqScheme,
    calibration: Calibration,
    before: Evaluated,
) -> list[Candidate]:
    """The candidates, and a file of each technique on the best one until then."""
    tried = list(tried)
    for technique in calibration.techniques:
        best = max(tried, key=lambda candidate: candidate.evaluated.AP)
        try:
            candidate = apply_technique(technique, best, request, scheme, calibration)
        except DivergedError as error:  # the files before it are good
            logger.warning("--technique %s: %s; skipped", technique, error)
        else:
            _log_AP(candidate, before)
            tried.append(candidate)
    return tried


def _result(
    best: Candidate,
    tried: Sequence[Candidate],
    before: Evaluated,
    calibration: Calibration,
    *,
    is_onnx: bool,
) -> QuantizationResult:
    """What 8 bits cost.

    Raises:
        CheckFailedError: it is too much.
    """
    samples = calibration.sample_images
    layers = worst_layers(best.source, best.file, samples) if is_onnx else []
    values = objectness_values(best.network.runner.run(image) for image in samples())
    _check(before.AP - best.evaluated.AP, calibration.max_drop, values, layers)
    if before.AP < MIN_MEANINGFUL_AP:
        logger.warning(
            "AP of the float32 file is %.1f points, below %g: it cannot be told what 8 bits lose; "
            "check --data and --imgsz", 100 * before.AP, 100 * MIN_MEANINGFUL_AP,
        )  # fmt: skip
    AP_of = {candidate.name: candidate.evaluated.AP for candidate in tried}
    return QuantizationResult(
        calibration=CalibrationResult(best.name, AP_of, calibration.num_images, calibration.sha256),
        latency_ratio=None,
        AP_float=before.AP,
        AP_difference=ap_difference_interval(before.images, best.evaluated.images),
        objectness_values=values,
        worst_layers=tuple(layers),
        npu_layers=best.network.npu_layers,
    )


def _log_AP(candidate: Candidate, before: Evaluated) -> None:
    logger.info("%s: AP %.4f (float32 %.4f)", candidate.name, candidate.evaluated.AP, before.AP)


def _check(lost: float, max_drop: float, values: int, layers: Sequence[Layer]) -> None:
    if values < MIN_OBJECTNESS_VALUES:
        raise CheckFailedError(
            f"only {values} different objectness values are left; no file is left behind"
        )
    if not 100 * lost <= max_drop:
        worst = ", ".join(f"{layer.name} {layer.sqnr_db:.0f} dB" for layer in layers[:3])
        where, technique = (
            (f" (worst layers: {worst})", "--technique bias, ") if worst else ("", "")
        )
        raise CheckFailedError(
            f"8 bits lose {100 * lost:.1f} AP, more than --max-drop {max_drop:g}{where}; no file "
            f"is left behind. {technique}more --calibration-images or training longer may help"
        )


def _latency(runner: Runner, floats: Runner, sizes: InputSizes) -> tuple[float, float]:
    """Median milliseconds of a run, and the median ratio to float32 runs, taken in turn."""
    images = np.zeros((sizes.batch_size, 3, *sizes.input_hw), np.float32)
    found = seconds_in_turn(
        {"8 bits": lambda: runner.run(images), "float32": lambda: floats.run(images)}
    )
    ratios = [
        seconds / base for seconds, base in zip(found["8 bits"], found["float32"], strict=True)
    ]
    return statistics.median(found["8 bits"]) * 1000, statistics.median(ratios)


def _move_into(path: Path, made: Path) -> None:
    """Put a file, or what is in a folder, where it is wanted."""
    if made.is_file():
        shutil.copyfile(made, path)
        return
    for each in made.iterdir():
        shutil.move(each, path / each.name)
