"""AP on blood cells over several seeds: `python -m experiments.bccd_training --shared DIR`.

Trains each row of RUNS with each seed, one after the other. A run that has its report already is
not repeated, so the script continues where it was cut off. Then it writes the table and the curves
as a dated report.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision

from utils.logs import configure_logging
from utils.plots.figure import make_figure, save_figure, style_axes
from utils.strict_yaml import write_yaml

logger = logging.getLogger(__name__)
ROOT = Path(__file__).parents[1]
IMAGE_SIZE, BATCH_SIZE, SEEDS = 320, 16, (0, 1, 2)
COMMIT_FILE = "commit.txt"  # of the code that trained


@dataclass(frozen=True, slots=True)
class Run:
    """One row of the table: what is trained, how long, and the AP its mean must reach."""

    name: str
    cfg: str
    weights: str
    epochs: int
    goal: float


RUNS = (
    Run("yolov5n, fine-tuned", "yolov5n.yaml", "weights/yolov5n.pt", 20, 0.40),
    Run("yolov5n, scratch", "yolov5n.yaml", "", 40, 0.30),
    Run("repyolov5n (SiLU), scratch", "repyolov5n-silu.yaml", "", 40, 0.29),
)


def train_once(run: Run, seed: int, shared: Path, runs: Path) -> dict[str, Any]:
    """The report of one training run, from its file where it has been made already."""
    folder = run_folder(run, seed, runs)
    report = folder / "report.json"
    if not report.exists():
        logger.info("training %s, seed %d", run.name, seed)
        command = [
            sys.executable, "train.py", "--cfg", run.cfg, "--data", str(_data_yaml(shared, runs)),
            "--weights", str(shared / run.weights) if run.weights else "",
            "--epochs", str(run.epochs), "--imgsz", str(IMAGE_SIZE),
            "--batch-size", str(BATCH_SIZE), "--seed", str(seed), "--workers", "2",
            "--cache", "ram", "--device", "cpu", "--amp", "off",
            "--project", str(runs), "--name", folder.name,
            "--exist-ok", "--report", str(report),
        ]  # fmt: skip
        (folder / "results.csv").unlink(missing_ok=True)  # of a run that was cut off
        folder.mkdir(parents=True, exist_ok=True)
        (folder / COMMIT_FILE).write_text(_commit(), encoding="utf-8")
        subprocess.run(command, cwd=ROOT, check=True)
    content: dict[str, Any] = json.loads(report.read_text())
    return content


def run_folder(run: Run, seed: int, runs: Path) -> Path:
    """Where a run's files are."""
    return runs / f"{run.name.replace(' ', '_')}_seed{seed}"


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _data_yaml(shared: Path, runs: Path) -> Path:
    """The data yaml, which reads the VOC files in place."""
    runs.mkdir(parents=True, exist_ok=True)
    path = runs / "bccd.yaml"
    files = {"images": "JPEGImages", "annotations": "Annotations"}
    splits = {
        split: {**files, "split": f"ImageSets/Main/{split}.txt"} for split in ("train", "val")
    }
    names = ["RBC", "WBC", "Platelets"]
    write_yaml(path, {"path": str(shared / "data" / "bccd"), **splits, "names": names})
    return path


def write_report(out: Path, reports: dict[Run, list[dict[str, Any]]], runs: Path) -> None:
    """The table as markdown and the AP curves as a picture beside it."""
    date = time.strftime("%Y-%m-%d")
    figure, axes = make_figure((8, 4.5), 1, 1)
    lines = [
        f"# Training on blood cells (bccd), {date}",
        "",
        f"COCO AP on the 87 validation pictures, best checkpoint of each run, {IMAGE_SIZE} px, "
        f"batch {BATCH_SIZE}, hyp.scratch-low, float32 (`--amp off`).",
        "",
        f"Machine: {_cpu_name()}, no GPU. Python {platform.python_version()}, "
        f"torch {torch.__version__}, torchvision {torchvision.__version__}. "
        "Made by `python -m experiments.bccd_training`. Other work ran on the machine at the same "
        "time, so the minutes say little.",
        "",
        "| model | epochs | seeds | AP per seed | AP mean (sd) | AP50 | goal | minutes | commit |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for number, (run, results) in enumerate(reports.items()):
        values = [result["AP"] for result in results]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        minutes = ", ".join(f"{result['seconds'] / 60:.1f}" for result in results)
        AP50 = statistics.mean(result["AP50"] for result in results)
        folders = [run_folder(run, seed, runs) for seed in SEEDS[: len(results)]]
        commits = sorted({(folder / COMMIT_FILE).read_text().strip() for folder in folders})
        lines.append(
            f"| {run.name} | {run.epochs} | {len(values)} | "
            f"{', '.join(f'{value:.3f}' for value in values)} | "
            f"{statistics.mean(values):.3f} ({spread:.3f}) | {AP50:.3f} | {run.goal:.2f} | "
            f"{minutes} | {', '.join(commits)} |"
        )
        for folder in folders:
            label = run.name if folder is folders[0] else None
            curve = _ap_curve(folder / "results.csv")
            axes[0, 0].plot(curve, color=f"C{number}", label=label, alpha=0.8)
    style_axes(axes[0, 0], "COCO AP on val after each epoch, one line per seed", "epoch", "AP")
    axes[0, 0].legend()
    picture = out / f"bccd_training_cpu_{date}.png"
    save_figure(figure, picture)
    lines += ["", f"![AP after each epoch]({picture.name})", ""]
    (out / f"bccd_training_cpu_{date}.md").write_text("\n".join(lines), encoding="utf-8")


def _ap_curve(results_csv: Path) -> list[float]:
    with results_csv.open(encoding="utf-8") as file:
        rows = csv.DictReader(file, skipinitialspace=True)
        return [float(row["metrics/mAP_0.5:0.95"]) for row in rows]


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def main() -> None:
    """Train what is missing, then write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and weights/")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "bccd", help="folder of runs")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    parser.add_argument(
        "--only", default="", help="train only rows with this in their name, and write no report"
    )
    arguments = parser.parse_args()
    configure_logging()
    shared, runs = arguments.shared.resolve(), arguments.runs.resolve()
    reports: dict[Run, list[dict[str, Any]]] = {
        run: [] for run in RUNS if arguments.only in run.name
    }
    for seed in SEEDS:  # all rows with one seed before any with the next
        for run in reports:
            reports[run].append(train_once(run, seed, shared, runs))
            logger.info("%s seed %d: AP %.4f", run.name, seed, reports[run][-1]["AP"])
    if not arguments.only:
        write_report(arguments.out, reports, runs)


if __name__ == "__main__":
    main()
