"""The costs of block families as a dated markdown report, with all rounds as JSON beside it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.output_files import write_json, write_text

COLUMNS = (
    "blocks", "parameters in training, M", "step, s", "step / plain", "peak, MB",
    "peak - plain, MB", "inference / plain, not converted", "converted / converted plain",
    "converted, ms", "ONNX nodes, not converted", "converted",
)  # fmt: skip


def write_report(
    out: Path, head: Sequence[str], hardware: str, found: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write both files into `out`; ratios and differences are relative to the first family.

    Args:
        out: the folder.
        head: lines of the introduction.
        hardware: part of the file names, e.g. "cpu".
        found: family -> measurements of `block_costs.measure`.

    Raises:
        ValueError: a family has another number of parameters in deploy form than the first.
    """
    date = time.strftime("%Y-%m-%d")
    name = f"block_costs_{hardware}_{date}"
    plain = next(iter(found.values()))
    deployed = plain["parameters"]["deploy"]
    lines = [
        f"# What each block family costs, {date}", "", *head, "",
        f"Converted, all have {deployed / 1e6:.3f} M parameters.", "",
        f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|",
    ]  # fmt: skip
    for family, row in found.items():
        if row["parameters"]["deploy"] != deployed:
            raise ValueError(f"{family}: has another deploy form than the plain network")
        cells = (
            family,
            f"{row['parameters']['train'] / 1e6:.3f}",
            f"{statistics.median(row['step_ms']) / 1e3:.2f}",
            _spread(row["step_ratio"]),
            f"{row['peak_memory_mb']:.0f}",
            f"{row['peak_memory_mb'] - plain['peak_memory_mb']:+.0f}",
            _spread(row["inference_ratio"]["train"]),
            _spread(row["inference_ratio"]["deploy"]),
            f"{statistics.median(row['inference_ms']['deploy']):.1f}",
            str(row["onnx_nodes"]["train"]),
            str(row["onnx_nodes"]["deploy"]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    write_text(out / f"{name}.md", "\n".join(lines) + "\n")
    write_json(out / f"{name}.json", dict(found))


def _spread(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
