"""Several networks as one: their predictions count together, and suppression chooses."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np

from models.runtimes.runner import Runner
from utils.errors import CheckpointError, ConfigError
from utils.structures import FloatArray

logger = logging.getLogger(__name__)


class EnsembleRunner:
    """Runs all its networks on every image."""

    def __init__(self, runners: Sequence[Runner], paths: Sequence[str]) -> None:
        """Find what the networks have in common.

        Args:
            runners: at least one.
            paths: their files, for messages.

        Raises:
            ConfigError: their class names differ, or no input size suits all.
        """
        self._runners, self._paths = tuple(runners), tuple(paths)
        self.class_names = _common_names(runners, paths)
        self.stride = math.lcm(*(runner.stride for runner in runners))
        self.input_hw = _common_hw(runners, paths)
        self.known_hw = _common_known_hw(runners, paths)
        fixed = [runner.batch_size for runner in runners if runner.batch_size is not None]
        # Each runner divides what it gets into batches that it can take.
        self.batch_size = max(fixed, default=None)
        self.suppresses = any(runner.suppresses for runner in runners)

    def run(self, images: FloatArray) -> FloatArray:
        """(B, 3, H, W) RGB in 0-1 -> (B, N, 5 + C) decoded predictions, network after network.

        Raises:
            CheckpointError: the networks have different numbers of classes.
        """
        parts = [runner.run(images) for runner in self._runners]
        counts = [part.shape[2] - 5 for part in parts]
        if len(set(counts)) > 1:  # a file without names says it only now
            found = ", ".join(
                f"{path} {count}" for path, count in zip(self._paths, counts, strict=True)
            )
            raise CheckpointError(
                f"--weights: networks that run together need the same classes; numbers of "
                f"classes: {found}"
            )
        return np.concatenate(parts, axis=1)


def _common_names(runners: Sequence[Runner], paths: Sequence[str]) -> tuple[str, ...]:
    """Of those that have names; empty where none has."""
    named = [(runner.class_names, path) for runner, path in zip(runners, paths, strict=True)
             if runner.class_names]  # fmt: skip
    if not named:
        return ()
    names, path = named[0]
    for others, other_path in named[1:]:
        if others == names:
            continue
        differing = [i for i, pair in enumerate(zip(names, others, strict=False))
                     if pair[0] != pair[1]]  # fmt: skip
        difference = (
            f"class {differing[0]} is {names[differing[0]]!r} in {path} and "
            f"{others[differing[0]]!r} in {other_path}"
            if differing
            else f"{path} has {len(names)} and {other_path} {len(others)}"
        )
        raise ConfigError(
            f"--weights: networks that run together need the same classes; {difference}"
        )
    return names


def _common_hw(runners: Sequence[Runner], paths: Sequence[str]) -> tuple[int | None, int | None]:
    """Height and width that all take; None where any multiple of the stride will do."""
    sides: list[int | None] = [None, None]
    setters = ["", ""]
    for runner, path in zip(runners, paths, strict=True):
        for axis, side in enumerate(runner.input_hw):
            if side is None:
                continue
            known = sides[axis]
            if known is not None and known != side:
                raise ConfigError(
                    f"--weights: networks that run together need the same input; "
                    f"{('height', 'width')[axis]} is {known} px in {setters[axis]} and {side} px "
                    f"in {path}; export one of them again with the other's --imgsz, or --dynamic"
                )
            sides[axis], setters[axis] = side, path
    for runner, path in zip(runners, paths, strict=True):
        for side, setter in zip(sides, setters, strict=True):
            if side is not None and side % runner.stride and setter != path:
                raise ConfigError(
                    f"--weights: {setter} takes {side} px only, which is no multiple of "
                    f"{runner.stride}, as {path} needs; export it again with another --imgsz"
                )
    return sides[0], sides[1]


def _common_known_hw(runners: Sequence[Runner], paths: Sequence[str]) -> tuple[int, int] | None:
    """What the first network was made for, of those that say it; notes others."""
    known = [(runner.known_hw, path) for runner, path in zip(runners, paths, strict=True)
             if runner.known_hw is not None]  # fmt: skip
    if not known:
        return None
    if len({hw for hw, _ in known}) > 1:
        sizes = ", ".join(f"{path} for {hw[0]}x{hw[1]} px" for hw, path in known if hw)
        logger.warning("--weights: made for different sizes (%s); without --imgsz the first "
                       "one's is used", sizes)  # fmt: skip
    return known[0][0]
