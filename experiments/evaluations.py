"""AP of networks as they are published, by val.py: `python -m experiments.evaluations --help`.

Each row of the report is one command, evaluated in a separate process: the official yolov5n and
v5lite-s on coco128, alone, with test-time augmentation and together; and the weights that ship on
the official splits of their data, exported to ONNX and to 8 bits too. What is measured depends on
neither the load nor the number of cores. Rows that have a result in the folder of `--runs` are not
evaluated again.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from experiments.training_runs import REPORTS, ROOT, bccd_yaml, machine_line, run_script
from utils.logs import SHIPPED_WEIGHTS, configure_logging
from utils.output_files import write_text
from utils.strict_yaml import read_yaml, write_yaml

logger = logging.getLogger(__name__)
FIGURES = ("AP", "AP50", "AP_small", "AP_medium", "AP_large")
COCO128, CIRCUITS, CELLS = "coco128", "deeppcb", "bccd"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One command of val.py.

    Attributes:
        weights: names of files in the folder of weights, or of one that ships.
        flags: the other arguments.
        data: name of the data yaml.
        export: flags of export.py, which writes the file to evaluate; empty for the checkpoint.
    """

    weights: tuple[str, ...]
    flags: str = ""
    data: str = COCO128
    export: str = ""

    @property
    def evaluated(self) -> tuple[str, ...]:
        """Names of the files that val.py gets."""
        if not self.export:
            return self.weights
        kind = self.export.removeprefix("--preset ").replace(" --", "-")
        return tuple(f"{Path(name).stem}-{kind}.onnx" for name in self.weights)

    def command(self) -> str:
        """As a user types it."""
        flags = f" {self.flags}" if self.flags else ""
        weights = " ".join(self.evaluated)
        return f"python val.py --data {self.data}.yaml --weights {weights}{flags}"

    def export_command(self) -> str:
        """By which the file is written, as a user types it; empty for the checkpoint."""
        if not self.export:
            return ""
        return (
            f"python export.py --weights {self.weights[0]} {self.export} "
            f"--data {self.data}.yaml --output {self.evaluated[0]}"
        )


PUBLISHED = (
    Evaluation(("yolov5n.pt",), "--imgsz 640"),
    Evaluation(("yolov5n.pt",), "--imgsz 640 --augment"),
    Evaluation(("v5lite-s.pt",), "--imgsz 640"),
    Evaluation(("yolov5n.pt", "v5lite-s.pt"), "--imgsz 640"),
    Evaluation(("v5lite-s.pt",), "--imgsz 416"),
    Evaluation(("v5lite-s.pt",), "--imgsz 416 --no-rect"),
)
SHIPPED = tuple(
    Evaluation((weights,), flags, data, export)
    for weights, data in (
        ("repyolov5n-npu-deeppcb.pt", CIRCUITS),
        ("repyolov5n-bccd.pt", CELLS),
    )
    for flags, export in (
        ("", ""),
        ("--no-rect", ""),
        ("", "--preset onnx"),
        ("", "--preset qdq-u8"),
        ("", "--preset qdq-u8 --reduce-range"),
    )
)


def write_data_yamls(shared: Path, folder: Path) -> None:
    """Data yamls in `folder` that read the images in place."""
    names = read_yaml(ROOT / "data" / "datasets" / f"{COCO128}.yaml")["names"]
    images = "images/train2017"
    root = str(shared / "data" / COCO128)
    coco128 = {"path": root, "train": images, "val": images, "names": names}
    write_yaml(folder / f"{COCO128}.yaml", coco128)
    circuits = {
        "path": str(shared / "data" / CIRCUITS), "train": "train.txt", "val": "val.txt",
        "names": ["open", "short", "mousebite", "spur", "copper", "pin-hole"],
    }  # fmt: skip
    write_yaml(folder / f"{CIRCUITS}.yaml", circuits)
    bccd_yaml(shared, folder)


def evaluate(evaluation: Evaluation, weights: Path, folder: Path) -> dict[str, Any]:
    """The report of val.py.

    Args:
        evaluation: whose command is run.
        weights: folder of those that do not ship.
        folder: of data yamls, exported files and results.
    """
    command = evaluation.command()
    report = folder / f"{hashlib.sha256(command.encode()).hexdigest()[:12]}.json"
    if report.exists():
        found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return found
    data = str(folder / f"{evaluation.data}.yaml")
    shipped = {path.name for path in SHIPPED_WEIGHTS.iterdir()}
    files = [str((SHIPPED_WEIGHTS if name in shipped else weights) / name)
             for name in evaluation.weights]  # fmt: skip
    if evaluation.export:
        exported = [str(folder / name) for name in evaluation.evaluated]
        run_script("export.py", "--weights", *files, *shlex.split(evaluation.export),
                   "--data", data, "--output", *exported)  # fmt: skip
        files = exported
    flags = shlex.split(evaluation.flags)
    output = ("--project", str(folder), "--exist-ok", "--noplots", "--report", str(report))
    run_script("val.py", "--data", data, "--weights", *files, *flags, "--device", "cpu", *output)
    content: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return content


Measured = Sequence[tuple[Evaluation, Mapping[str, Any]]]


def report_of(published: Measured, shipped: Measured, date: str) -> str:
    """The whole report in Markdown."""
    lines = [
        f"# AP of published networks, {date}", "",
        f"{machine_line()} Made by `python -m experiments.evaluations`. One run each: nothing is "
        "random.",
        "", "## Official weights on coco128", "",
        "COCO's AP on the 128 images of coco128, on which these networks were trained: the rows "
        "compare, they do not rank.", "", *_table(published),
        "", "## Weights that ship", "",
        "COCO's AP on the official split that chose their best epoch. onnxruntime "
        f"{version('onnxruntime')}.", "", *_table(shipped),
        "", "By class, AP:", "",
        *(f"- `{each.command()}`: {_by_class(found)}." for each, found in shipped),
        "", "ONNX files were written by:", "", "```",
        *(each.export_command() for each, _ in shipped if each.export), "```",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _table(measured: Measured) -> list[str]:
    rows = (
        f"| `{each.command()}` | {found['images']} |"
        + "".join(f" {_share(found[name])} |" for name in FIGURES)
        for each, found in measured
    )
    head = "".join(f" {name.replace('_', ' ')} |" for name in FIGURES)
    return [f"| command | images |{head}", f"|---|---|{'---|' * len(FIGURES)}", *rows]


def _share(AP: float | None) -> str:
    """A figure of the table; a dash where no object has that size."""
    return "-" if AP is None else f"{AP:.3f}"


def _by_class(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{each['name']} {_share(each['AP'])}" for each in found["per_class"])


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
    runs = given.runs.resolve()
    write_data_yamls(given.shared.resolve(), runs)
    weights = given.shared.resolve() / "weights"
    published, shipped = (
        [(each, evaluate(each, weights, runs)) for each in evaluations]
        for evaluations in (PUBLISHED, SHIPPED)
    )
    date = datetime.date.today().isoformat()
    path = given.out / f"evaluations_cpu_{date}.md"
    write_text(path, report_of(published, shipped, date))
    logger.info("%s", path)


if __name__ == "__main__":
    main()
