"""What the time of a conversion is made of, and the floor of its equivalence check."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.matrix_floor import matrix_seconds
from benchmarks.measurement import output_of
from benchmarks.parts import seconds_in_file
from data.check_images import check_inputs
from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.conversion.block_report import block_reports
from models.conversion.equivalence import CHECK_CELLS, Passes, measure_equivalence
from models.network.detector import network_gflops
from utils.checkpoint import load_checkpoint, save_checkpoint

# Runs a conversion, without the imports at its start, and writes the profile to the first argument.
PROGRAM = """
import cProfile, sys
from convert import main
profiler = cProfile.Profile()
code = profiler.runcall(main, sys.argv[2:])
profiler.dump_stats(sys.argv[1])
raise SystemExit(code)
"""
CHECK = "the equivalence check"
FLOOR = "floor of running both: their multiply-adds at the rate of large matrix products"
PARTS: dict[str, Callable[..., object]] = {
    "reading the file": read_weights,
    "building both networks": build_from_checkpoint,
    "saving": save_checkpoint,
    "reading the saved file": load_checkpoint,
    CHECK: measure_equivalence,
    "of it, each block alone in float64": block_reports,
    "of it, running both networks in float32 and float64": Passes.run,
    "counting GFLOPs of both, torch's compiler imported for that": network_gflops,
}


def conversion_parts(weights: Path) -> dict[str, float]:
    """Seconds of the parts of `convert.py --weights FILE`, after its imports.

    Raises:
        RunFailedError: the conversion failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        profile, output = Path(folder) / "profile", Path(folder) / "converted.pt"
        files = [str(each) for each in (profile, "--weights", weights, "--output", output)]
        output_of([sys.executable, "-c", PROGRAM, *files])
        found = seconds_in_file(profile, PARTS)
    return {**found, FLOOR: check_floor(weights)}


def check_floor(weights: Path) -> float:
    """Seconds of the multiply-adds with which the check runs both networks in both precisions."""
    model = build_from_checkpoint(read_weights(weights))
    sizes = [(rows * model.stride, columns * model.stride) for rows, columns in CHECK_CELLS]
    gflops = sum(
        len(batch) * network_gflops(model, (batch.shape[2], batch.shape[3]))
        for batch in check_inputs(sizes)
    )
    return sum(2 * matrix_seconds(gflops, dtype) for dtype in (torch.float32, torch.float64))
