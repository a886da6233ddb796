"""What the time of a conversion is made of, and the floor of its equivalence check."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.matrix_floor import matrix_seconds
from benchmarks.parts import seconds_in
from convert import CHECK_CELLS, convert
from data.check_images import check_inputs
from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.conversion.block_report import reports_of
from models.conversion.equivalence import measure_equivalence
from models.network.detector import Detector, network_gflops
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.convert_config import ConvertConfig

WHOLE = "the conversion"
FLOOR = "floor of running both: their multiply-adds at the rate of large matrix products"
PARTS: dict[str, Callable[..., object]] = {
    WHOLE: convert,
    "reading the file": read_weights,
    "building both networks": build_from_checkpoint,
    "saving": save_checkpoint,
    "reading the saved file": load_checkpoint,
    "the equivalence check": measure_equivalence,
    "of it, each block alone in float64": reports_of,
    "of it, running both networks in float32 and float64": Detector.run_layer,
    "counting GFLOPs of both, torch's compiler imported for that": network_gflops,
}


def conversion_parts(weights: Path) -> dict[str, float]:
    """Seconds of each part of `convert.py --weights FILE`, without the imports at its start."""
    output = weights.with_name("parts.pt")
    config = ConvertConfig(weights=str(weights), output=str(output))
    found = seconds_in(partial(convert, config), PARTS)
    output.unlink()
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
