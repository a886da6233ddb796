"""AP gain of each quantization technique: `python -m experiments.int8_techniques --shared DIR`.

Exports two trained networks in 8 bits, with a scale per channel and one per tensor, and applies
each technique of export.py alone to the best calibration. `--bccd` is a repyolov5n trained on blood
cells (by experiments.bccd_training). An export that has a report already is not repeated.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.exported_files import halves
from experiments.training_runs import REPORTS, ROOT, bccd_yaml, machine_line, run_script
from models.quantization.quantized_onnx import TECHNIQUES
from utils.logs import configure_logging
from utils.output_files import write_text

GRANULARITIES = {"per channel": (), "per tensor": ("--per-tensor",)}


@dataclass(frozen=True, slots=True)
class Network:
    """A trained network and the images it is evaluated on.

    Attributes:
        name: in the report.
        weights: its checkpoint.
        data: data yaml.
        image_size: side of the input in pixels.
        techniques: those that apply to it.
    """

    name: str
    weights: Path
    data: Path
    image_size: int
    techniques: tuple[str, ...]


def networks(shared: Path, bccd: Path, folder: Path) -> tuple[Network, ...]:
    """A SiLU network of COCO, and a LeakyReLU network of RepVGG blocks."""
    coco = halves(shared, folder)
    not_silu = tuple(technique for technique in TECHNIQUES if technique != "equalize")
    return (
        Network("yolov5n (SiLU), half of coco128, 640 px", shared / "weights" / "yolov5n.pt", coco,
                640, not_silu),
        Network("repyolov5n (RepVGG, LeakyReLU), bccd, 320 px", bccd, bccd_yaml(shared, folder),
                320, tuple(TECHNIQUES)),
    )  # fmt: skip


def exported(network: Network, granularity: str, technique: str, folder: Path) -> dict[str, Any]:
    """The report entry of one export, made unless its report exists."""
    name = f"{network.image_size}_{granularity}_{technique}".replace(" ", "_")
    report = folder / f"{name}.json"
    if not report.exists():
        run_script(
            "export.py", "--weights", str(network.weights), "--int8", *GRANULARITIES[granularity],
            "--data", str(network.data), "--imgsz", str(network.image_size),
            "--technique", technique, "--max-drop", "100", "--workers", "2",
            "--output", str(folder / f"{name}.onnx"), "--report", str(report),
        )  # fmt: skip
    (entry,) = json.loads(report.read_text())["files"]
    found: dict[str, Any] = entry
    return found


def row(network: Network, granularity: str, folder: Path) -> str:
    """A markdown row: float AP, that of the best calibration, and that after each technique."""
    cells, base, floats = [], "", 0.0
    for technique in TECHNIQUES:
        if technique not in network.techniques:
            cells.append("-")
            continue
        entry = exported(network, granularity, technique, folder)
        tried: dict[str, float] = entry["calibration"]["AP"]
        calibrations = [name for name in tried if ", " not in name]
        best = max(calibrations, key=lambda method: tried[method])
        base, floats = f"{tried[best]:.4f} ({best})", entry["AP_float"]
        after = tried.get(f"{best}, {technique}")  # None where its training diverged
        cells.append("-" if after is None else f"{after:.4f}")
    return f"| {network.name} | {granularity} | {floats:.4f} | {base} | {' | '.join(cells)} |"


def main() -> None:
    """Export what is missing and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and weights/")
    parser.add_argument("--bccd", type=Path, required=True, help="repyolov5n trained on bccd")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "int8_techniques")
    parser.add_argument("--out", type=Path, default=REPORTS)
    arguments = parser.parse_args()
    configure_logging()
    shared, folder = arguments.shared.resolve(), arguments.runs.resolve()
    date = time.strftime("%Y-%m-%d")
    lines = [
        f"# Quantization techniques in 8 bits, {date}",
        "",
        "Preset `qdq-u8`, the best of two calibrations on at most 100 images of train, and each "
        "technique alone on top of it (`train`: 3 epochs). AP on val; one trained network each, so "
        "differences of less than a point are chance.",
        "",
        f"{machine_line()} Made by `python -m experiments.int8_techniques`.",
        "",
        f"| network | scales of weights | float32 | 8 bits | {' | '.join(TECHNIQUES)} |",
        "|---|---|---|---|" + "---|" * len(TECHNIQUES),
    ]
    for network in networks(shared, arguments.bccd.resolve(), folder):
        lines += [row(network, granularity, folder) for granularity in GRANULARITIES]
    path = arguments.out / f"int8_techniques_cpu_{date}.md"
    write_text(path, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
