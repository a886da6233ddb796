"""What export.py says of each file it wrote."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.formats.presets import PRESETS

logger = logging.getLogger(__name__)
_STEP, _MAX_IMAGES = 32, 8


def log_entry(entry: Mapping[str, Any]) -> None:
    """Log one entry of the report, and what to do with the file."""
    errors = ", ".join(f"{name} {value:.1e}" for name, value in entry["max_rel_error"].items())
    parts = [f"{entry['bytes'] / 1e6:.1f} MB"]
    if entry["opset"] is not None:
        parts.append(f"opset {entry['opset']}, {sum(entry['operators'].values())} operators")
    parts.append(f"{entry['verified']}: largest error against PyTorch {errors}")
    if entry["latency_ms"] is not None:
        parts.append(f"{entry['latency_ms']:.1f} ms")
    if entry["AP"] is not None:
        parts.append(f"AP {entry['AP']:.4f}{_lost(entry)}")
    if "npu" in entry:
        parts.append(f"{entry['npu']['layers']} layers, {entry['npu']['cycles']:,} cycles")
    logger.info("%s: %s", entry["path"], ", ".join(parts))
    file, stem = (shlex.quote(each) for each in (entry["path"], Path(entry["path"]).stem))
    if command := PRESETS[entry["preset"]].command:
        logger.info("Then: %s%s", command.format(file=file, stem=stem), _free_sizes(entry["sizes"]))
    logger.info("Next: python detect.py --weights %s --source FOLDER", file)


def _free_sizes(sizes: Mapping[str, Any]) -> str:
    """What trtexec is told of sizes that may change: from half the input to it, 1 to 8 images."""
    if not sizes["dynamic"]:
        return ""
    free_hw, batch = "hw" in sizes["dynamic"], sizes["batch_size"]
    shapes = []
    for count, share in ((1, 0.5), (1, 1.0), (_MAX_IMAGES, 1.0)):
        height, width = (
            max(_STEP, int(side * share) // _STEP * _STEP) if free_hw else side
            for side in sizes["input_hw"]
        )
        shapes.append(f"{count if 'batch' in sizes['dynamic'] else batch}x3x{height}x{width}")
    least, best, most = shapes
    return f" --minShapes=images:{least} --optShapes=images:{best} --maxShapes=images:{most}"


def _lost(entry: Mapping[str, Any]) -> str:
    """What 8 bits cost and gain; empty for float files."""
    if "AP_float" not in entry:
        return ""
    between = entry["AP_difference"]
    ratio = entry["latency_ratio"]
    gained = "" if ratio is None else f", {ratio:.2f} of the float32 file's time"
    return (
        f" ({100 * between['difference']:+.1f} points from float32's {entry['AP_float']:.4f}, with "
        f"95 % between {100 * between['low']:+.1f} and {100 * between['high']:+.1f}; "
        f"{entry['calibration']['method']}){gained}"
    )
