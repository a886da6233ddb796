"""AP of networks as they are published, by val.py: `python -m experiments.evaluations --help`.

Each row of the report is one command, evaluated in a separate process: the official yolov5n and
v5lite-s on coco128, alone, with test-time augmentation and together, and the weights that ship on
the data of their cards. What is measured depends on neither the load nor the number of cores. Rows
that have a result in the folder of `--runs` are not evaluated again.
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
    bccd_yaml,
    current_commit,
    machine_line,
    run_script,
)
from utils.logs import configure_logging
from utils.strict_yaml import read_yaml, write_yaml

logger = logging.getLogger(__name__)
FIGURES = ("AP", "AP50", "AP_small", "AP_medium", "AP_large")
DEEPPCB_CLASSES = ["open", "short", "mousebite", "spur", "copper", "pin-hole"]
SHIPPED = "models/weights"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One command of val.py.

    Attributes:
        data: the data yaml's stem.
        weights: names of files in the folder of weights, or paths in the project.
        flags: the other arguments.
    """

    data: str
    weights: tuple[str, ...]
    flags: str = ""

    def command(self) -> str:
        """As a user types it."""
        flags = f" {self.flags}" if self.flags else ""
        return f"python val.py --data {self.data}.yaml --weights {' '.join(self.weights)}{flags}"


EVALUATIONS = (
    Evaluation("coco128", ("yolov5n.pt",), "--imgsz 640"),
    Evaluation("coco128", ("yolov5n.pt",), "--imgsz 640 --augment"),
    Evaluation("coco128", ("v5lite-s.pt",), "--imgsz 640"),
    Evaluation("coco128", ("yolov5n.pt", "v5lite-s.pt"), "--imgsz 640"),
    Evaluation("coco128", ("v5lite-s.pt",), "--imgsz 416"),
    Evaluation("coco128", ("v5lite-s.pt",), "--imgsz 416 --no-rect"),
    Evaluation("bccd", (f"{SHIPPED}/repyolov5n-bccd.pt",)),
    Evaluation("bccd", (f"{SHIPPED}/repyolov5n-bccd.pt",), "--no-rect"),
    Evaluation("deeppcb", (f"{SHIPPED}/repyolov5n-npu-deeppcb.pt",)),
    Evaluation("deeppcb", (f"{SHIPPED}/repyolov5n-npu-deeppcb.pt",), "--no-rect"),
)


def write_data_yamls(shared: Path, folder: Path) -> None:
    """coco128.yaml, bccd.yaml and deeppcb.yaml, which read the images in place."""
    names = read_yaml(ROOT / "data" / "datasets" / "coco128.yaml")["names"]
    coco = {"path": str(shared / "data" / "coco128"), "names": names}
    images = "images/train2017"
    write_yaml(folder / "coco128.yaml", {**coco, "train": images, "val": images})
    bccd_yaml(shared, folder)
    boards = {"path": str(shared / "data" / "deeppcb"), "names": DEEPPCB_CLASSES}
    write_yaml(folder / "deeppcb.yaml", {**boards, "train": "train.txt", "val": "val.txt"})


def evaluate(evaluation: Evaluation, weights: Path, folder: Path) -> dict[str, Any]:
    """The report of val.py."""
    files = [
        str(ROOT / name if name.startswith(SHIPPED) else weights / name)
        for name in evaluation.weights
    ]
    report = folder / f"{hashlib.sha256(evaluation.command().encode()).hexdigest()[:12]}.json"
    if report.exists():
        found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return found
    data = str(folder / f"{evaluation.data}.yaml")
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
        "COCO's AP on the validation images: coco128 (on which yolov5n and v5lite-s were trained), "
        "BCCD and DeepPCB (official splits; the best epoch of the shipped networks was chosen on "
        "them). One run each: nothing is random.", "",
        f"{machine_line()} Commit {current_commit()}. Made by `python -m experiments.evaluations`.",
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
    write_data_yamls(given.shared, given.runs)
    weights = given.shared / "weights"
    measured = [(each, evaluate(each, weights, given.runs)) for each in EVALUATIONS]
    date = datetime.date.today().isoformat()
    path = given.out / f"evaluations_cpu_{date}.md"
    path.write_text(report_of(measured, date), encoding="utf-8")
    logger.info("%s", path)


if __name__ == "__main__":
    main()
