"""AP on blood cells over several seeds: `python -m experiments.bccd_training --shared DIR`.

Trains each row of ROWS with each seed, one after the other. A run that has a report already is
not repeated, so the script continues where it was cut off. Then it writes the table and the curves
as a dated report.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.run_comparison import standard_error
from experiments.training_runs import (
    REPORTS,
    ROOT,
    ap_curve,
    bccd_yaml,
    commits_of,
    machine_line,
    mean_and_spread,
    run_folder,
    train_once,
)
from utils.logs import configure_logging
from utils.output_files import write_text
from utils.plots.figure import make_figure, save_figure, style_axes

logger = logging.getLogger(__name__)
IMAGE_SIZE, BATCH_SIZE, SEEDS = 320, 16, (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Row:
    """A network and how it is trained.

    Attributes:
        name: in the table.
        cfg: model yaml.
        weights: checkpoint to start from, in the shared folder; empty starts from nothing.
        epochs: to train.
        reference: AP of three seeds of ultralytics/yolov5 5081342f with yolov5n, trained so.
        teacher: name of the row whose run of the same seed it learns from.
    """

    name: str
    cfg: str
    weights: str
    epochs: int
    reference: tuple[float, ...]
    teacher: str = ""


FINE_TUNED, SCRATCH = (0.422, 0.446, 0.409), (0.336, 0.335, 0.321)
ROWS = (
    Row("yolov5n, fine-tuned", "yolov5n.yaml", "weights/yolov5n.pt", 20, FINE_TUNED),
    Row("yolov5n, scratch", "yolov5n.yaml", "", 40, SCRATCH),
    Row("repyolov5n, fine-tuned", "repyolov5n.yaml", "weights/yolov5n.pt", 20, FINE_TUNED),
    Row("repyolov5n, scratch", "repyolov5n.yaml", "", 40, SCRATCH),
    Row("repyolov5n, scratch, with teacher", "repyolov5n.yaml", "", 40, SCRATCH,
        teacher="yolov5n, fine-tuned"),
)  # fmt: skip


def train_row(row: Row, seed: int, shared: Path, runs: Path) -> dict[str, Any]:
    """train.py's report of one row with one seed, trained unless it exists."""
    teacher = next((other for other in ROWS if other.name == row.teacher), None)
    taught = () if teacher is None else ("--teacher", str(best_weights(teacher, seed, runs)))
    return train_once(
        run_folder(row.name, seed, runs),
        *taught,
        *("--cfg", row.cfg, "--data", str(bccd_yaml(shared, runs))),
        *("--weights", str(shared / row.weights) if row.weights else ""),
        *("--epochs", str(row.epochs), "--imgsz", str(IMAGE_SIZE)),
        *("--batch-size", str(BATCH_SIZE), "--seed", str(seed)),
    )


def best_weights(row: Row, seed: int, runs: Path) -> Path:
    """Path of the best checkpoint of a run."""
    return run_folder(row.name, seed, runs) / "weights" / "best.pt"


def in_standard_errors(values: Sequence[float], reference: Sequence[float]) -> str:
    """The difference of two means, absolute and in pooled standard errors."""
    difference = statistics.mean(values) - statistics.mean(reference)
    error = standard_error(values, reference) if len(values) > 1 else None
    return f"{difference:+.3f}" + (f" ({difference / error:+.1f} se)" if error else "")


def write_report(out: Path, reports: dict[Row, list[dict[str, Any]]], runs: Path) -> None:
    """The table as markdown and the AP curves as an image beside it."""
    date = time.strftime("%Y-%m-%d")
    figure, axes = make_figure((8, 4.5), 1, 1)
    lines = [
        f"# Training on blood cells (bccd), {date}",
        "",
        f"COCO AP on the 87 validation images, best checkpoint of each run, {IMAGE_SIZE} px, "
        f"batch {BATCH_SIZE}, hyp.scratch-low, float32 (`--amp off`).",
        "",
        f"{machine_line()} Made by `python -m experiments.bccd_training`. "
        "Other work ran on the machine at the same time, so the minutes say little.",
        "",
        "Beside each row: AP of ultralytics/yolov5 5081342f with yolov5n, three seeds, trained and "
        "evaluated in the same way. The difference of the means is also in pooled standard errors "
        "(one is the spread of both sides' seeds pooled, times the root of 1/n + 1/m).",
        "",
        "| model | epochs | seeds | AP per seed | AP mean (sd) | AP50 | yolov5n there "
        "| difference | minutes | commit |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for number, (row, results) in enumerate(reports.items()):
        values = [result["AP"] for result in results]
        minutes = ", ".join(f"{result['seconds'] / 60:.1f}" for result in results)
        AP50 = statistics.mean(result["AP50"] for result in results)
        folders = [run_folder(row.name, seed, runs) for seed in SEEDS[: len(results)]]
        lines.append(
            f"| {row.name} | {row.epochs} | {len(values)} | "
            f"{', '.join(f'{value:.3f}' for value in values)} | "
            f"{mean_and_spread(values)} | {AP50:.3f} | {mean_and_spread(row.reference)} | "
            f"{in_standard_errors(values, row.reference)} | "
            f"{minutes} | {commits_of(folders)} |"
        )
        for folder in folders:
            label = row.name if folder is folders[0] else None
            axes[0, 0].plot(*ap_curve(folder), color=f"C{number}", label=label, alpha=0.8)
    style_axes(axes[0, 0], "COCO AP on val after each epoch, one line per seed", "epoch", "AP")
    axes[0, 0].legend()
    image = out / f"bccd_training_cpu_{date}.png"
    save_figure(figure, image)
    lines += ["", f"![AP after each epoch]({image.name})", ""]
    write_text(out / f"bccd_training_cpu_{date}.md", "\n".join(lines))


def main() -> None:
    """Train what is missing, then write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and weights/")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "bccd", help="folder of runs")
    parser.add_argument("--out", type=Path, default=REPORTS)
    names = [row.name for row in ROWS]
    parser.add_argument("--rows", nargs="+", choices=names, default=names, help="only these")
    arguments = parser.parse_args()
    configure_logging()
    shared, runs = arguments.shared.resolve(), arguments.runs.resolve()
    reports: dict[Row, list[dict[str, Any]]] = {
        row: [] for row in ROWS if row.name in arguments.rows
    }
    for seed in SEEDS:  # all rows with one seed before any with the next
        for row in reports:
            reports[row].append(train_row(row, seed, shared, runs))
            logger.info("%s seed %d: AP %.4f", row.name, seed, reports[row][-1]["AP"])
    write_report(arguments.out, reports, runs)


if __name__ == "__main__":
    main()
