"""How block families start and learn: `python -m experiments.scratch_training --shared DIR`.

Trains yolov5n from scratch with each row of ROWS and each seed, on PASCAL VOC 2007 (2500 images of
20 classes) or, with `--data bccd`, on blood cells (205 images of 3 classes, on which a network gets
somewhere in minutes). An optimizer step per batch, so that short runs have many of them. VOC's
boxes marked difficult are ignored, as VOC does. A run that has a report already is not repeated, so
the script continues where it was cut off; each setting has runs of its own. After each run the
dated report is written anew, from all finished runs.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.hyps import HYPS_FOLDER
from experiments.bccd_training import in_standard_errors
from experiments.training_runs import (
    REPORTS,
    ROOT,
    ap_curve,
    bccd_yaml,
    commits_of,
    machine_line,
    mean_and_spread,
    run_script,
    train_once,
)
from experiments.voc_data import matches_of, voc_yaml, voc_yaml_without_difficult
from utils.logs import configure_logging
from utils.metrics.paired_bootstrap import ap_difference_interval
from utils.plots.figure import make_figure, save_figure, style_axes
from utils.strict_yaml import find_shipped, read_yaml, write_yaml

logger = logging.getLogger(__name__)
HYP = "hyp.scratch-low.yaml"
COUNTED, PREDICTIONS = "counted.json", "ignored/best_predictions.json"  # in a run's folder
LOSSES = ("train/box_loss", "train/obj_loss", "train/cls_loss")


@dataclass(frozen=True, slots=True)
class Row:
    """A block family; `scales_of` names the row whose run of the same seed found its scales."""

    name: str
    rep_block: str
    scales_of: str = ""


PLAIN = Row("plain", "none")
ROWS = (
    PLAIN,
    Row("OREPA, start=paper", "OREPA(start=paper)"),
    Row("OREPA, start=plain", "OREPA(start=plain)"),
    Row("RepVGG, start=plain", "RepVGG(start=plain)"),
    Row("RepVGG, start=paper", "RepVGG(start=paper)"),
    Row("RepOpt", "RepOpt"),
    Row("LinearAdd", "LinearAdd"),
    Row("RepOpt, searched scales", "RepOpt", "LinearAdd"),
)


@dataclass(frozen=True, slots=True)
class DataSet:
    """What is learned.

    Attributes:
        title: for the report.
        write: makes the data yaml of training and evaluation.
        write_counted: makes one in which VOC's difficult boxes count; None where there are none.
    """

    title: str
    write: Callable[[Path, Path], Path]
    write_counted: Callable[[Path, Path], Path] | None = None


DATA_SETS = {
    "voc07": DataSet(
        "VOC 2007, 2500 images of 20 classes, 1000 for validation; boxes marked difficult are "
        "ignored, or counted in the column that says so", voc_yaml_without_difficult, voc_yaml,
    ),
    "bccd": DataSet("blood cells, 205 images of 3 classes, 87 for validation", bccd_yaml),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Setting:
    """Where data and runs are, and how long and large a run is."""

    shared: Path
    runs: Path
    epochs: int
    image_size: int
    data_name: str = "voc07"
    batch_size: int = 16
    amp: str = "off"

    @property
    def data_set(self) -> DataSet:
        """What is learned."""
        return DATA_SETS[self.data_name]

    @property
    def needed(self) -> tuple[str, ...]:
        """The files of a finished run."""
        counted = () if self.data_set.write_counted is None else (COUNTED,)
        return ("report.json", PREDICTIONS, *counted)

    def data(self) -> Path:
        """The data yaml, written."""
        return self.data_set.write(self.shared, self.runs)

    def folder(self, row: Row, seed: int) -> Path:
        """The folder of a run."""
        row_name = row.name.replace(",", "").replace(" ", "_")
        kind = "" if self.amp == "off" else f"_{self.amp}"
        size = f"{self.image_size}px_{self.epochs}epochs_batch{self.batch_size}"
        return self.runs / f"{self.data_name}_{row_name}_{size}{kind}_seed{seed}"

    def finished(self, row: Row, seeds: Sequence[int]) -> list[int]:
        """The seeds with which a row has a report."""
        return [
            seed
            for seed in seeds
            if all((self.folder(row, seed) / name).exists() for name in self.needed)
        ]


def train_row(row: Row, seed: int, setting: Setting) -> dict[str, Any]:
    """train.py's report of one row with one seed, trained unless it exists."""
    searched = next((other for other in ROWS if other.name == row.scales_of), None)
    found = () if searched is None else (
        "--scales", str(setting.folder(searched, seed) / "weights" / "best.pt")
    )  # fmt: skip
    return train_once(
        setting.folder(row, seed),
        *("--cfg", "yolov5n.yaml", "--rep-block", row.rep_block, *found),
        *("--data", str(setting.data()), "--noautoanchor", "--amp", setting.amp),
        *("--hyp", str(hyp_of_a_step_per_batch(setting)), "--seed", str(seed)),
        *("--epochs", str(setting.epochs), "--imgsz", str(setting.image_size)),
        *("--batch-size", str(setting.batch_size)),
    )


def evaluate_row(row: Row, seed: int, setting: Setting) -> None:
    """Once for each run: AP with difficult boxes counted, and its detections for the bootstrap."""
    folder = setting.folder(row, seed)
    common = (
        "val.py", "--weights", str(folder / "weights" / "best.pt"), "--imgsz",
        str(setting.image_size), "--device", "cpu", "--project", str(folder), "--exist-ok",
        "--noplots",
    )  # fmt: skip
    counted, write_counted = folder / COUNTED, setting.data_set.write_counted
    if write_counted is not None and not counted.exists():
        data = write_counted(setting.shared, setting.runs)
        run_script(*common, "--name", "counted", "--data", str(data), "--report", str(counted))
    if not (folder / PREDICTIONS).exists():
        run_script(*common, "--name", "ignored", "--data", str(setting.data()), "--save-json")


def hyp_of_a_step_per_batch(setting: Setting) -> Path:
    """Write the shipped hyper-parameters with a nominal batch that is the batch."""
    path = setting.runs / f"nbs{setting.batch_size}.yaml"
    write_yaml(path, {**read_yaml(find_shipped(HYP, HYPS_FOLDER)), "nbs": setting.batch_size})
    return path


def loss_curve(folder: Path) -> list[float]:
    """Training loss (box, objectness and class together) of each epoch, from results.csv."""
    with (folder / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, skipinitialspace=True))
    return [sum(float(row[name]) for name in LOSSES) for row in rows]


def table(setting: Setting, runs: Mapping[Row, Sequence[int]]) -> list[str]:
    """The rows of the report, as markdown.

    Args:
        setting: of the runs.
        runs: row -> the seeds that are finished, at least one.
    """
    lines = [
        "| blocks | seeds | AP per seed | AP mean (sd) | AP50 | difficult counted: AP, AP50 "
        "| against plain | by bootstrap, per seed | training loss, last epoch | minutes | commit |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    reports = {row: [_report(setting.folder(row, seed)) for seed in runs[row]] for row in runs}
    reference = [report["AP"] for report in reports.get(PLAIN, [])]
    for row, results in reports.items():
        folders = [setting.folder(row, seed) for seed in runs[row]]
        values = [result["AP"] for result in results]
        counted = [json.loads((folder / COUNTED).read_text()) for folder in folders
                   if COUNTED in setting.needed]  # fmt: skip
        minutes = ", ".join(f"{result['seconds'] / 60:.0f}" for result in results)
        difference = "" if row == PLAIN or not reference else in_standard_errors(values, reference)
        lines.append(
            f"| {row.name} | {len(values)} | {', '.join(f'{value:.4f}' for value in values)} | "
            f"{mean_and_spread(values)} | {_mean(results, 'AP50')} | "
            f"{_counted(counted)} | "
            f"{difference} | {', '.join(_intervals(setting, row, runs))} | "
            f"{mean_and_spread([loss_curve(each)[-1] for each in folders])} | "
            f"{minutes} | {commits_of(folders)} |"
        )
    return lines


def _mean(results: Sequence[Mapping[str, float]], name: str) -> str:
    return f"{statistics.mean(result[name] for result in results):.3f}"


def _counted(results: Sequence[Mapping[str, float]]) -> str:
    return f"{_mean(results, 'AP')}, {_mean(results, 'AP50')}" if results else ""


def _intervals(setting: Setting, row: Row, runs: Mapping[Row, Sequence[int]]) -> list[str]:
    """Per seed that the plain network has, too: the 95 % interval of the difference in AP."""
    found = []
    for seed in sorted(set(runs[row]) & set(runs.get(PLAIN, ())) if row != PLAIN else ()):
        plain, other = (
            matches_of(setting.data(), setting.folder(each, seed) / PREDICTIONS)
            for each in (PLAIN, row)
        )
        interval = ap_difference_interval(plain, other)
        found.append(f"{interval.low:+.3f} to {interval.high:+.3f}")
    return found


def _report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return content


def write_report(out: Path, setting: Setting, seeds: Sequence[int]) -> None:
    """All finished runs: a table as markdown, and the curves as an image beside it."""
    runs = {row: setting.finished(row, seeds) for row in ROWS if setting.finished(row, seeds)}
    name = f"scratch_training_{setting.data_name}_cpu_{time.strftime('%Y-%m-%d')}"
    lines = [
        f"# Block families from scratch on {setting.data_name}, {time.strftime('%Y-%m-%d')}",
        "",
        f"yolov5n, {setting.image_size} px, {setting.epochs} epochs, an optimizer step per batch "
        f"of {setting.batch_size} (nbs: {setting.batch_size}), otherwise {HYP}, "
        f"`--amp {setting.amp}`. "
        f"Data: {setting.data_set.title}. COCO AP of each run's best checkpoint. Differences to "
        "plain: of the means in pooled standard errors over seeds, and per seed the 95 % interval "
        "of a paired bootstrap over images.", "",
        f"{machine_line()} Made by `python -m experiments.scratch_training`. Other work ran on the "
        "machine at the same time, so the minutes say little.", "",
        *table(setting, runs), "", f"![AP and training loss]({name}.png)", "",
    ]  # fmt: skip
    figure, axes = make_figure((11, 4.5), 1, 2)
    for number, (row, finished) in enumerate(runs.items()):
        for seed in finished:
            folder = setting.folder(row, seed)
            label = row.name if seed == finished[0] else None
            style = {"color": f"C{number}", "label": label, "alpha": 0.8}
            axes[0, 0].plot(ap_curve(folder), **style)
            axes[0, 1].plot(loss_curve(folder), **style)
    style_axes(axes[0, 0], "COCO AP on val, one line per seed", "epoch", "AP")
    style_axes(axes[0, 1], "training loss", "epoch", "loss")
    axes[0, 0].legend()
    save_figure(figure, out / f"{name}.png")
    (out / f"{name}.md").write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    """Train what is missing; write the report after each run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--shared", type=Path, required=True, help="folder with data/voc07 and data/bccd"
    )
    parser.add_argument(
        "--runs", type=Path, default=ROOT / "runs" / "scratch", help="folder of runs"
    )
    parser.add_argument("--out", type=Path, default=REPORTS)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--imgsz", type=int, default=192)
    parser.add_argument("--data", choices=DATA_SETS, default="voc07")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    names = [row.name for row in ROWS]
    parser.add_argument("--rows", nargs="+", choices=names, default=names, help="train only these")
    parser.add_argument("--amp", default="off", choices=("off", "bf16", "fp16", "auto"))
    arguments = parser.parse_args()
    configure_logging()
    setting = Setting(
        arguments.shared.resolve(), arguments.runs.resolve(), arguments.epochs, arguments.imgsz,
        arguments.data, arguments.batch_size, arguments.amp,
    )  # fmt: skip
    rows = [row for row in ROWS if row.name in arguments.rows]
    for seed in arguments.seeds:  # all rows with one seed before any with the next
        for row in rows:
            report = train_row(row, seed, setting)
            evaluate_row(row, seed, setting)
            logger.info("%s seed %d: AP %.4f", row.name, seed, report["AP"])
            write_report(arguments.out, setting, arguments.seeds)


if __name__ == "__main__":
    main()
