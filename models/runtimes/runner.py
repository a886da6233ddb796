"""What every runtime offers: a file in, a network out; images in, decoded predictions out.

Shapes: B images, N boxes of one image, C classes, H W pixels. No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from utils.structures import FloatArray


class Runner(Protocol):
    """A network ready to run, whatever file it came from."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class; empty where the file does not say."""

    @property
    def stride(self) -> int:
        """Height and width of the input must be multiples of this."""

    @property
    def input_hw(self) -> tuple[int | None, int | None]:
        """Height and width the network takes; None where any multiple of the stride will do."""

    @property
    def known_hw(self) -> tuple[int, int] | None:
        """Height and width it was trained or exported with; None where the file does not say."""

    @property
    def batch_size(self) -> int | None:
        """Images the file computes at a time; None where any number will do."""

    @property
    def suppresses(self) -> bool:
        """Whether the file drops boxes itself, by thresholds that it was exported with."""

    def run(self, images: FloatArray) -> FloatArray:
        """(B, 3, H, W) RGB in 0-1 -> (B, N, 5 + C) decoded predictions, boxes in input pixels."""


class Opener(Protocol):
    """Opens a file or folder of a format."""

    def __call__(self, path: str | Path, *, device: str = "") -> Runner:
        """The network, ready to run.

        Raises:
            CheckpointError: not a file of this format.
            ConfigError: the runtime does not run on this device.
            MissingPackageError: the runtime is not installed.
        """


@dataclass(frozen=True, slots=True)
class Runtime:
    """A program that runs files.

    Attributes:
        name: of the program.
        open: opens a file.
        open_half: the same for float16; None where files are computed in float32 alone.
        simulated: it stands in for a chip, so its time says nothing.
    """

    name: str
    open: Opener
    open_half: Opener | None = None
    simulated: bool = False
