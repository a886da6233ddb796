"""Time and peak memory of a command, watched from outside (Linux)."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measurement import RunFailedError
from experiments.training_runs import ROOT
from utils.child_process import ends_with_this

INTERVAL = 0.005  # seconds between two looks


@dataclass(frozen=True, slots=True)
class ProcessCost:
    """What a command took.

    Attributes:
        seconds: from its start to its end.
        peak_mb: the most memory its process had resident, its children not counted.
    """

    seconds: float
    peak_mb: float


def cost_of(command: Sequence[str]) -> ProcessCost:
    """Run a command to its end.

    The system keeps the peak of a process (VmHWM) as long as it lives, so that looks into /proc
    miss no peak but one of the last few milliseconds. `ru_maxrss` would be wrong: a process
    inherits it from the one that started it.

    Raises:
        RunFailedError: it failed; the message is its last line.
    """
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        peak = 0
        with ends_with_this(process):
            while process.poll() is None:
                peak = max(peak, _high_water(process.pid))
                time.sleep(INTERVAL)
        seconds = time.perf_counter() - start
        output.seek(0)
        lines = [*output.read().decode(errors="replace").splitlines()]
    if process.returncode:
        raise RunFailedError(f"{' '.join(command)}: {lines[-1] if lines else 'no output'}")
    return ProcessCost(seconds, peak / 1e6)


def _high_water(pid: int) -> int:
    """Bytes; 0 where the process has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
