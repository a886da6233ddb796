"""What export.py says of each file it wrote."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from utils.deploy.presets import PRESETS

logger = logging.getLogger(__name__)


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
    if command := PRESETS[entry["preset"]].command:
        logger.info("Then: %s", command.format(file=entry["path"]))
    logger.info("Next: python detect.py --weights %s --source FOLDER", entry["path"])


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
