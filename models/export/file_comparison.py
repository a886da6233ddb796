"""How far the answers of an exported file are from PyTorch's."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from models.export.decoded_network import DecodedNetwork
from models.export.exported_file import FileRequest
from models.export.parity import detection_errors, group_errors, merged
from models.runtimes.runner import Runner
from utils.errors import CheckFailedError
from utils.structures import FloatArray

# An 8-bit file may be farther from PyTorch in another runtime than in its first one by this.
MAX_TIMES, MAX_MORE = 2.0, 0.1


def sizes_to_compare(request: FileRequest) -> list[tuple[int, int]]:
    """Heights and widths of inputs: the file's, and others where they may change."""
    stride = max(request.detector.strides)
    others = [(3 * stride, 5 * stride), (4 * stride, 2 * stride)]
    return [request.sizes.input_hw, *(others if "hw" in request.sizes.dynamic else ())]


def errors_of(
    runner: Runner, request: FileRequest, inputs: Sequence[FloatArray]
) -> dict[str, float]:
    """The worst error of each column group over all inputs."""
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
    return merged(found)


def checked_errors(
    runner: Runner, request: FileRequest, inputs: Sequence[FloatArray], where: str
) -> dict[str, float]:
    """The same of a float file.

    Raises:
        CheckFailedError: more than the preset's tolerance.
    """
    worst, tolerance = errors_of(runner, request, inputs), request.preset.tolerance
    for name, error in worst.items():
        if not error <= tolerance:
            raise CheckFailedError(
                f"{name} differs from PyTorch by {error:.1e} in {where}, more than "
                f"{tolerance:.0e}; no file is left behind"
            )
    return worst


def checked_rounded_errors(
    runner: Runner,
    request: FileRequest,
    inputs: Sequence[FloatArray],
    where: str,
    first: dict[str, float],
) -> dict[str, float]:
    """The same of an 8-bit file in another runtime than the one that was evaluated.

    Raises:
        CheckFailedError: it computes something else there.
    """
    worst = errors_of(runner, request, inputs)
    for name, error in worst.items():
        if not error <= MAX_TIMES * first[name] + MAX_MORE:
            raise CheckFailedError(
                f"{name} differs from PyTorch by {error:.1e} in {where}, by {first[name]:.1e} in "
                "the runtime that was evaluated; no file is left behind"
            )
    return worst
