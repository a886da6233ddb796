"""What detect.py looks at: one image of a file, a video or a stream, or a file left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from utils.structures import ImageArray


@dataclass(frozen=True, slots=True)
class Frame:
    """One image to look at.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        source: the file, or the address of the stream (without its password).
        path: the file; for a stream, a name that can serve as a file name.
        position: the number of its file among the source's files, from 1.
        num_positions: how many files the source has.
        frame_index: its number in the video, from 1; 1 for an image.
        frame_count: frames the video says it has; 1 for an image, None where nobody knows.
        fps: yielded frames per second of the video or stream; None for an image.
        is_video: from a video or stream.
    """

    image: ImageArray
    source: str
    path: Path
    position: int
    num_positions: int
    frame_index: int
    frame_count: int | None
    fps: float | None
    is_video: bool

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that could not be read, and why."""

    path: Path
    reason: str
