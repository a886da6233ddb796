"""How far an exported file's answers are from PyTorch's: per group of columns, in each runtime."""

from __future__ import annotations

import importlib.util
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np
import torch

from models.export.column_errors import (
    ColumnErrors,
    best_class_errors,
    group_errors,
    score_errors,
)
from models.export.export_networks import DecodedNetwork
from models.export.exported_file import FileRequest
from models.export.suppression_errors import detection_errors
from models.formats.format import Format, NetworkFile, SecondRuntime
from models.runtimes.input_sizes import InputSizes
from models.runtimes.runner import Runner
from utils.errors import CheckFailedError, CheckpointError
from utils.structures import FloatArray

logger = logging.getLogger(__name__)
TIMED_RUNS = 20
# An 8-bit file may be farther from PyTorch in another runtime than in its first one by this.
MAX_TIMES, MAX_MORE = 2.0, 0.1


def sizes_to_compare(request: FileRequest) -> list[tuple[int, int]]:
    """Heights and widths of inputs: the file's, and others where they may change."""
    stride = request.detector.stride
    others = [(3 * stride, 5 * stride), (4 * stride, 2 * stride)]
    return [request.sizes.input_hw, *(others if "hw" in request.sizes.dynamic else ())]


def errors_of(runner: Runner, request: FileRequest, inputs: Sequence[FloatArray]) -> ColumnErrors:
    """The worst errors over all inputs."""
    network, found = DecodedNetwork(request.detector).eval(), []
    for images in inputs:
        with torch.inference_mode():
            expected = network(torch.from_numpy(images)).numpy()
        found.append(answer_errors(expected, runner.run(images), request))
    return ColumnErrors.worst(found)


def answer_errors(expected: FloatArray, answer: FloatArray, request: FileRequest) -> ColumnErrors:
    """The errors of one answer, by what a file of this head still says.

    Args:
        expected: (B, N, 5 + C) decoded predictions of PyTorch.
        answer: (B, N or K, 5 + C), as the file's runner decodes it.
        request: of the file.
    """
    if request.preset.head == "e2e":
        return detection_errors(expected, answer, request.suppression)
    compare = {"scores": score_errors, "best": best_class_errors}
    return compare.get(request.preset.head, group_errors)(expected, answer)


def check_float_errors(errors: ColumnErrors, tolerance: float, runtime: str) -> None:
    """Refuse a float file that is too far from PyTorch.

    Raises:
        CheckFailedError: a group is farther than the tolerance.
    """
    for name, error in errors.by_name().items():
        if not error <= tolerance:
            raise CheckFailedError(
                f"{name} differs from PyTorch by {error:.1e} in {runtime}, more than "
                f"{tolerance:.0e}; no file is left behind"
            )


def check_rounded_errors(errors: ColumnErrors, first: ColumnErrors, runtime: str) -> None:
    """Refuse an 8-bit file that computes something else in another runtime.

    Args:
        errors: there.
        first: in the runtime in which the file was evaluated.
        runtime: the other one's name.

    Raises:
        CheckFailedError: a group is much farther from PyTorch there.
    """
    evaluated = first.by_name()
    for name, error in errors.by_name().items():
        if not error <= MAX_TIMES * evaluated[name] + MAX_MORE:
            raise CheckFailedError(
                f"{name} differs from PyTorch by {error:.1e} in {runtime}, by "
                f"{evaluated[name]:.1e} in the runtime that was evaluated; no file is left behind"
            )


def second_runtimes(file: NetworkFile, formats: Sequence[Format]) -> list[SecondRuntime]:
    """Every other runtime than onnxruntime that takes an ONNX file and is installed."""
    taking = [
        each.second_runtime
        for each in formats
        if each.second_runtime is not None and takes(each.second_runtime, file)
    ]
    return [each for each in taking if _is_installed(each, file)]


def takes(runtime: SecondRuntime, file: NetworkFile) -> bool:
    """Whether a file is of a kind that a second runtime opens."""
    quantization = file.preset.quantization
    if quantization is not None:
        scheme = quantization.scheme
        return runtime.takes_8_bits and scheme is not None and not scheme.symmetric
    return (
        not runtime.takes_8_bits
        and not file.preset.half
        and file.opset <= runtime.newest_opset
        and (runtime.dynamic or not file.sizes.dynamic)
        and (runtime.rows_last or not file.preset.rows_last)
        and (runtime.batches or file.sizes.batch_size == 1)
    )


def _is_installed(runtime: SecondRuntime, file: NetworkFile) -> bool:
    package = runtime.package
    if package is None or importlib.util.find_spec(package.module) is not None:
        return True
    logger.info(
        "%s is not installed: the file of preset %s is not compared there",
        package.module, file.preset.name,
    )  # fmt: skip
    return False


def second_errors(
    file: NetworkFile,
    formats: Sequence[Format],
    errors_in: Callable[[Runner, str], ColumnErrors],
) -> dict[str, ColumnErrors]:
    """The errors in second runtimes, by their names.

    Args:
        file: the ONNX file.
        formats: whose runtimes open it, one after the other.
        errors_in: computes and checks the errors of a runner in the runtime of this name.

    Raises:
        CheckFailedError: one does not take the file, or `errors_in` says so.
    """
    found = {}
    for runtime in second_runtimes(file, formats):
        with ExitStack() as stack:
            try:
                runner = stack.enter_context(runtime.open(file))
            except (CheckpointError, RuntimeError) as error:
                reason = " ".join(str(error).split())[:300]
                raise CheckFailedError(
                    f"{file.path.name}: {runtime.name} does not take it: {reason}"
                ) from None
            found[runtime.name] = errors_in(runner, runtime.name)
    return found


def median_ms(runner: Runner, sizes: InputSizes) -> float:
    """Median milliseconds of a run, after a warm-up."""
    images: FloatArray = np.zeros((sizes.batch_size, 3, *sizes.input_hw), np.float32)
    runner.run(images)
    seconds = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        runner.run(images)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1000
