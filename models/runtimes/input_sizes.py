"""Sizes of an exported file's input."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InputSizes:
    """What sizes a file takes.

    Attributes:
        input_hw: height and width of the input.
        batch_size: images per run.
        dynamic: which of "batch" and "hw" may change from run to run.
    """

    input_hw: tuple[int, int]
    batch_size: int = 1
    dynamic: tuple[str, ...] = ()
