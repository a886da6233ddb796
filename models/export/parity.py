"""How far an exported file's answers are from PyTorch's: per group of columns, in each runtime."""

from __future__ import annotations

import importlib.util
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
import torch

from models.export.exported_file import FileRequest
from models.formats.format import Format, NetworkFile, SecondRuntime
from models.network.box_coder import DecodedNetwork
from models.runtimes.input_sizes import InputSizes
from models.runtimes.runner import Runner
from utils.boxes import pairwise_iou
from utils.errors import CheckFailedError, CheckpointError
from utils.postprocess import PostprocessConfig, postprocess
from utils.structures import Detections, FloatArray

logger = logging.getLogger(__name__)
TIMED_RUNS = 20
# An 8-bit file may be farther from PyTorch in another runtime than in its first one by this.
MAX_TIMES, MAX_MORE = 2.0, 0.1
_SAME_BOX = 0.99  # IoU
_MIN_SCORE = 0.1  # thousands of boxes score less, and rounding decides which of them stay
_BORDERLINE = 1e-3  # a score this near to the threshold may be on either side of it


@dataclass(frozen=True, slots=True)
class ColumnErrors:
    """Largest relative error, max |a - b| / max |a|, of each group of columns.

    Pixels would hide dead scores in one common figure.

    Attributes:
        xy: of centres, or of left upper corners after suppression.
        wh: of widths and heights, or of right lower corners.
        objectness: of objectness, or of scores after suppression.
        class_prob: of class probabilities; 0 after suppression (objects of one class are paired).
    """

    xy: float
    wh: float
    objectness: float
    class_prob: float

    @classmethod
    def worst(cls, errors: Sequence[ColumnErrors]) -> ColumnErrors:
        """The largest of each group."""
        return cls(
            xy=max(each.xy for each in errors),
            wh=max(each.wh for each in errors),
            objectness=max(each.objectness for each in errors),
            class_prob=max(each.class_prob for each in errors),
        )

    def by_name(self) -> dict[str, float]:
        """As reports and messages name the groups."""
        return {
            "xy": self.xy,
            "wh": self.wh,
            "objectness": self.objectness,
            "class": self.class_prob,
        }


def sizes_to_compare(request: FileRequest) -> list[tuple[int, int]]:
    """Heights and widths of inputs: the file's, and others where they may change."""
    stride = max(request.detector.strides)
    others = [(3 * stride, 5 * stride), (4 * stride, 2 * stride)]
    return [request.sizes.input_hw, *(others if "hw" in request.sizes.dynamic else ())]


def errors_of(runner: Runner, request: FileRequest, inputs: Sequence[FloatArray]) -> ColumnErrors:
    """The worst errors over all inputs."""
    network, found = DecodedNetwork(request.detector).eval(), []
    for images in inputs:
        with torch.inference_mode():
            expected = network(torch.from_numpy(images)).numpy()
        answer = runner.run(images)
        found.append(
            detection_errors(expected, answer, request.suppression)
            if request.preset.head == "e2e"
            else group_errors(expected, answer)
        )
    return ColumnErrors.worst(found)


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


def group_errors(reference: FloatArray, other: FloatArray) -> ColumnErrors:
    """The errors of decoded predictions (B, N, 5 + C)."""
    return ColumnErrors(
        xy=_relative(reference[..., :2], other[..., :2]),
        wh=_relative(reference[..., 2:4], other[..., 2:4]),
        objectness=_relative(reference[..., 4:5], other[..., 4:5]),
        class_prob=_relative(reference[..., 5:], other[..., 5:]),
    )


def detection_errors(
    reference: FloatArray, other: FloatArray, config: PostprocessConfig
) -> ColumnErrors:
    """The errors of what is detected, for files that suppress by themselves.

    Args:
        reference: (B, N, 5 + C) decoded predictions.
        other: the file's, of which only what it kept is left.
        config: how the file suppresses. Better boxes are kept without regard to worse ones, so
            objects of very low scores can be skipped in the comparison.

    Returns:
        Infinite where one of the two finds an object that the other does not.
    """
    config = replace(config, score_threshold=max(config.score_threshold, _MIN_SCORE))
    pairs = [
        _matched(postprocess(expected, config), postprocess(found, config), config)
        for expected, found in zip(reference, other, strict=True)
    ]
    if any(pair is None for pair in pairs):
        return ColumnErrors(*(float("inf"),) * 4)
    known = [pair for pair in pairs if pair is not None]
    expected = np.concatenate([pair[0] for pair in known])
    found = np.concatenate([pair[1] for pair in known])
    if not len(expected):
        return ColumnErrors(0.0, 0.0, 0.0, 0.0)
    return ColumnErrors(
        xy=_relative(expected[:, :2], found[:, :2]),
        wh=_relative(expected[:, 2:4], found[:, 2:4]),
        objectness=_relative(expected[:, 4:], found[:, 4:]),
        class_prob=0.0,
    )


def _relative(reference: FloatArray, other: FloatArray) -> float:
    scale = float(np.abs(reference).max())
    difference = float(np.abs(reference - other).max())
    if difference == 0:
        return 0.0
    return difference / scale if scale > 0 and np.isfinite(difference) else float("inf")


def _matched(
    expected: Detections, found: Detections, config: PostprocessConfig
) -> tuple[FloatArray, FloatArray] | None:
    """Rows of box and score of the objects that both found; None if one misses an object."""
    same = expected.class_ids[:, None] == found.class_ids[None]
    overlap = np.where(same, pairwise_iou(expected.boxes, found.boxes), 0)
    partner = overlap.argmax(1) if len(found) else np.zeros(len(expected), np.int64)
    has = overlap.max(1, initial=0) > _SAME_BOX
    claimed = np.isin(np.arange(len(found)), partner[has])
    alone = np.concatenate([expected.scores[~has], found.scores[~claimed]])
    floor = config.score_threshold
    if len(expected) == config.max_detections:  # more were found: the last ones may be others
        floor = float(expected.scores.min())
    if (alone > floor + _BORDERLINE).any():
        return None
    rows = [
        np.concatenate([each.boxes, each.scores[:, None]], 1).astype(np.float32)
        for each in (expected[has], found[partner[has]])
    ]
    return rows[0], rows[1]
