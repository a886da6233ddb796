"""AP of networks as they are published, by val.py: `python -m experiments.evaluations --help`.

Each row of the report is one command, evaluated in a separate process: the official yolov5n and
v5lite-s on coco128, alone, with test-time augmentation and together. What is measured depends on
neither the load nor the number of cores. Rows that have a result in the folder of `--runs` are not
evaluated again. (A test holds the weights that ship to the AP of their cards.)
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import logging
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.training_runs import (
    REPORTS,
    ROOT,
    machine_line,
    run_script,
)
from utils.logs import configure_logging
from utils.strict_yaml import read_yaml, write_yaml

logger = logging.getLogger(__name__)
FIGURES = ("AP", "AP50", "AP_small", "AP_medium", "AP_large")
DATA = "coco128"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One command of val.py.

    Attributes:
        weights: names of files in the folder of weights.
        flags: the other arguments.
    """

    weights: tuple[str, ...]
    flags: str

    def command(self) -> str:
        """As a user types it."""
        return f"python val.py --data {DATA}.yaml --weights {' '.join(self.weights)} {self.flags}"


EVALUATIONS = (
    Evaluation(("yolov5n.pt",), "--imgsz 640"),
    Evaluation(("yolov5n.pt",), "--imgsz 640 --augment"),
    Evaluation(("v5lite-s.pt",), "--imgsz 640"),
    Evaluation(("yolov5n.pt", "v5lite-s.pt"), "--imgsz 640"),
    Evaluation(("v5lite-s.pt",), "--imgsz 416"),
    Evaluation(("v5lite-s.pt",), "--imgsz 416 --no-rect"),
)


def write_data_yaml(shared: Path, folder: Path) -> Path:
    """coco128.yaml, which reads the images in place."""
    names = read_yaml(ROOT / "data" / "datasets" / f"{DATA}.yaml")["names"]
    images = "images/train2017"
    path = folder / f"{DATA}.yaml"
    root = str(shared / "data" / DATA)
    write_yaml(path, {"path": root, "train": images, "val": images, "names": names})
    return path


def evaluate(evaluation: Evaluation, weights: Path, folder: Path) -> dict[str, Any]:
    """The report of val.py."""
    files = [str(weights / name) for name in evaluation.weights]
    report = folder / f"{hashlib.sha256(evaluation.command().encode()).hexdigest()[:12]}.json"
    if report.exists():
        found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return found
    data = str(folder / f"{DATA}.yaml")
    output = ("--project", str(folder), "--exist-ok", "--noplots", "--report", str(report))
    flags = shlex.split(evaluation.flags)
    run_script("val.py", "--data", data, "--weights", *files, *flags, "--device", "cpu", *output)
    content: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return content


def report_of(measured: list[tuple[Evaluation, dict[str, Any]]], date: str) -> str:
    """The whole report in Markdown."""
    heads = " | ".join(name.replace("_", " ") for name in FIGURES)
    rows = [
        f"| `{evaluation.command()}` | {found['images']} | "
        + " | ".join(f"{found[name]:.3f}" for name in FIGURES)
        + " |"
        for evaluation, found in measured
    ]
    lines = [
        f"# AP of published networks, {date}", "",
        "COCO's AP on the 128 images of coco128, on which these networks were trained: the rows "
        "compare, they do not rank. One run each: nothing is random.", "",
        f"{machine_line()} Made by `python -m experiments.evaluations`.",
        "", f"| command | images | {heads} |", f"|---|{'---|' * (len(FIGURES) + 1)}", *rows,
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    """Evaluate and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared",
                        help="folder with data/ and weights/")  # fmt: skip
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "evaluations",
                        help="folder of what was measured")  # fmt: skip
    parser.add_argument("--out", type=Path, default=REPORTS, help="folder of the report")
    given = parser.parse_args()
    configure_logging()
    given.runs.mkdir(parents=True, exist_ok=True)
    write_data_yaml(given.shared, given.runs)
    weights = given.shared / "weights"
    measured = [(each, evaluate(each, weights, given.runs)) for each in EVALUATIONS]
    date = datetime.date.today().isoformat()
    path = given.out / f"evaluations_cpu_{date}.md"
    path.write_text(report_of(measured, date), encoding="utf-8")
    logger.info("%s", path)


if __name__ == "__main__":
    main()
