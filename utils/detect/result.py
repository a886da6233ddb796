"""What a detection run found, and how long it took."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.frame import Skipped

DECIMALS = 3


@dataclass(frozen=True, slots=True)
class DetectResult:
    """The outcome of a run.

    Attributes:
        frames: images and video frames looked at.
        detections: objects found in all of them.
        skipped: files that could not be read.
        ms_per_frame: stage -> milliseconds per frame.
        frames_per_second: over the whole run, loading the network not counted.
        folder: where the run's files are.
    """

    frames: int
    detections: int
    skipped: tuple[Skipped, ...]
    ms_per_frame: dict[str, float]
    frames_per_second: float
    folder: Path

    def as_report(self) -> dict[str, Any]:
        """The content of the `--report` file."""
        skipped = [{"source": str(item.path), "reason": item.reason} for item in self.skipped]
        return {
            "frames": self.frames,
            "detections": self.detections,
            "skipped": skipped,
            "ms_per_frame": {name: round(ms, DECIMALS) for name, ms in self.ms_per_frame.items()},
            "frames_per_second": round(self.frames_per_second, DECIMALS),
        }

    def as_text(self) -> str:
        """The same in words, for the console."""
        stages = ", ".join(f"{ms:.1f} {name}" for name, ms in self.ms_per_frame.items())
        skipped = f", {len(self.skipped)} files skipped" if self.skipped else ""
        return (
            f"{self.frames} frames, {self.detections} detections{skipped}\n"
            f"ms per frame: {stages}; {self.frames_per_second:.1f} frames/s\n"
            f"results are in {self.folder}"
        )
