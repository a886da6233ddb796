"""Training runs that are made once: an existing report is read, a missing one is trained."""

from __future__ import annotations

import csv
import json
import logging
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from utils.child_process import run_child
from utils.machine import processor_name
from utils.strict_yaml import write_yaml

logger = logging.getLogger(__name__)
ROOT = Path(__file__).parents[1]
REPORTS = ROOT / "docs" / "benchmarks"
CHANGED = "+"  # after a commit: tracked files differ from it
_COMMIT_FILE = "commit.txt"  # of the code that trained
# Float32 and no plots: the same for every row of every table.
_COMMON = ("--workers", "2", "--cache", "ram", "--device", "cpu", "--amp", "off", "--noplots")


def run_script(*command: str) -> None:
    """Run one of the five scripts in a separate process, as a user does."""
    run_child([sys.executable, *command], cwd=ROOT)


def run_folder(name: str, seed: int, runs: Path) -> Path:
    """The folder of a row of a table, without its spaces and commas, with one seed."""
    return runs / f"{name.replace(' ', '_').replace(',', '')}_seed{seed}"


def train_once(folder: Path, *flags: str) -> dict[str, Any]:
    """The report of the training run in `folder`; trains with `flags` if there is none."""
    report = folder / "report.json"
    if not report.exists():
        logger.info("training %s", folder.name)
        (folder / "results.csv").unlink(missing_ok=True)  # of a run that was cut off
        folder.mkdir(parents=True, exist_ok=True)
        note_commit(folder)
        output = ("--project", str(folder.parent), "--name", folder.name, "--exist-ok")
        run_script("train.py", *_COMMON, *flags, *output, "--report", str(report))
    content: dict[str, Any] = json.loads(report.read_text())
    return content


def note_commit(folder: Path) -> None:
    """Write which commit trains the run in `folder`, which `commits_of` reads."""
    (folder / _COMMIT_FILE).write_text(current_commit(), encoding="utf-8")


def bccd_yaml(shared: Path, folder: Path) -> Path:
    """Write a data yaml into `folder` that reads the blood cells' VOC files in place."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "bccd.yaml"
    files = {"images": "JPEGImages", "annotations": "Annotations"}
    splits = {
        split: {**files, "split": f"ImageSets/Main/{split}.txt"} for split in ("train", "val")
    }
    names = ["RBC", "WBC", "Platelets"]
    write_yaml(path, {"path": str(shared / "data" / "bccd"), **splits, "names": names})
    return path


def commits_of(folders: Sequence[Path]) -> str:
    """The distinct commits that trained these runs, joined by commas."""
    return ", ".join(sorted({(folder / _COMMIT_FILE).read_text().strip() for folder in folders}))


def ap_curve(folder: Path) -> tuple[list[int], list[float]]:
    """Epochs that were evaluated, from 0, and COCO AP after them, from a run's results.csv."""
    with (folder / "results.csv").open(encoding="utf-8") as file:
        rows = csv.DictReader(file, skipinitialspace=True)
        found = [(int(row["epoch"]), row["metrics/mAP_0.5:0.95"]) for row in rows]
    evaluated = [(epoch, float(AP)) for epoch, AP in found if AP]
    return [epoch for epoch, _ in evaluated], [AP for _, AP in evaluated]


def mean_and_spread(values: Sequence[float]) -> str:
    """`mean (sd)` to three decimals; the mean alone for one value."""
    mean = f"{statistics.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({statistics.stdev(values):.3f})"


def machine_line() -> str:
    """Processor, GPU, versions and commit in one line, for the head of a report."""
    import torchvision  # takes two seconds, and `--help` needs none of it

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"Machine: {processor_name()}, {torch.get_num_threads()} torch threads, {gpu}. "
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"torchvision {torchvision.__version__}. Commit {checked_out()}."
    )


def checked_out() -> str:
    """The short hash of the commit, with CHANGED where tracked files differ from it."""
    command = ["git", "status", "--porcelain", "--untracked-files=no"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return current_commit() + (CHANGED if found.stdout.strip() else "")


def current_commit() -> str:
    """The short hash of what is checked out, or `unknown`."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
