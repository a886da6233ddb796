"""The dated report of `experiments.block_training`: tables, claims and curves."""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from experiments.block_claims import (
    Results,
    ap_sentences,
    cost_sentences,
    kernel_sentences,
    teacher_sentences,
)
from experiments.block_runs import DIVERGED_FILE, HYP, PLAIN, SCRATCH, Row, Setting, warmup_epochs
from experiments.peer_training import PEER
from experiments.run_comparison import Difference, Result, image_interval
from experiments.run_evaluation import DRAWS_FILE, FIGURES_FILE
from experiments.training_runs import ap_curve, commits_of, machine_line, mean_and_spread
from utils.logs import counted
from utils.metrics.coco import MIN_MEANINGFUL_AP
from utils.output_files import write_text
from utils.plots.figure import line_color, make_figure, save_figure, style_axes

LOSSES = ("train/box_loss", "train/obj_loss", "train/cls_loss")
TIMES = (
    "An epoch is the median of those timed, evaluation included, with other runs beside it on the "
    "machine."
)
NO_TIMES = "Seconds are omitted: other work ran on the machine, and the runs were stopped at times."
Finished = Mapping[Row, Sequence[int]]  # row -> seeds, at least one


def finished_runs(setting: Setting, rows: Sequence[Row], seeds: Sequence[int]) -> Finished:
    """The rows that have runs, and their seeds."""
    found = {
        row: [seed for seed in seeds if all(
            (setting.folder(row, seed) / name).exists() for name in (FIGURES_FILE, DRAWS_FILE)
        )] for row in rows
    }  # fmt: skip
    return {row: seeds_of for row, seeds_of in found.items() if seeds_of}


def loss_curve(folder: Path) -> list[float]:
    """Training loss (box, objectness and class together) of each epoch, from results.csv."""
    with (folder / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, skipinitialspace=True))
    return [sum(float(row[name]) for name in LOSSES) for row in rows]


def accuracy_table(setting: Setting, runs: Finished, results: Results) -> list[str]:
    """AP of each row, and its difference to the plain network's, as markdown."""
    lines = [
        "| blocks | seeds | AP per seed | AP mean (sd) | AP50 | small, medium, large "
        "| difficult counted: AP, AP50 | against plain | by bootstrap, per seed "
        "| training loss, last epoch |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row, seeds in runs.items():
        found = [run.figures for run in results[row.name]]
        values = [figures["AP"] for figures in found]
        sizes = ", ".join(f"{statistics.mean(figures[name] for figures in found):.3f}"
                          for name in ("AP_small", "AP_medium", "AP_large"))  # fmt: skip
        all_boxes = [figures["crowds_counted"] for figures in found]
        losses = [loss_curve(setting.folder(row, seed))[-1] for seed in seeds]
        lines.append(
            f"| {row.name} | {len(values)} | {', '.join(f'{value:.4f}' for value in values)} | "
            f"{mean_and_spread(values)} | "
            f"{mean_and_spread([figures['AP50'] for figures in found])} | {sizes} | "
            f"{_mean(all_boxes, 'AP')}, {_mean(all_boxes, 'AP50')} | "
            f"{_against_plain(row, results)} | {_intervals(row, runs, results)} | "
            f"{mean_and_spread(losses)} |"
        )
    return lines


def _mean(found: Sequence[Mapping[str, float]], name: str) -> str:
    return f"{statistics.mean(figures[name] for figures in found):.3f}"


def _against_plain(row: Row, results: Results) -> str:
    if row == PLAIN or PLAIN.name not in results:
        return ""
    return str(Difference.between(results[PLAIN.name], results[row.name]))


def _intervals(row: Row, runs: Finished, results: Results) -> str:
    """Per seed that the plain network has, too: the 95 % interval of the difference in AP."""
    found = []
    for seed in sorted(set(runs[row]) & set(runs.get(PLAIN, ())) if row != PLAIN else ()):
        plain, other = (results[each.name][runs[each].index(seed)] for each in (PLAIN, row))
        low, high = image_interval([plain], [other])
        found.append(f"{low:+.3f} to {high:+.3f}")
    return ", ".join(found)


def cost_table(setting: Setting, runs: Finished, results: Results) -> list[str]:
    """Seconds of an epoch and memory of each row, and their ratio to the plain network's."""
    lines = [
        "| blocks | seconds per epoch | / plain | peak memory, MB | / plain | commit |",
        "|---|---|---|---|---|---|",
    ]
    seconds, memory = (
        {name: [value for run in of_row if (value := getattr(run, figure)) is not None]
         for name, of_row in results.items()}
        for figure in ("epoch_seconds", "peak_memory_mb")
    )  # fmt: skip
    for row, seeds in runs.items():
        cells = []
        for of_row in (seconds, memory):
            own, plain = of_row[row.name], of_row.get(PLAIN.name, [])
            cells.append(f"{statistics.median(own):.1f}" if own else "")
            both = bool(own and plain)
            cells.append(f"{statistics.median(own) / statistics.median(plain):.2f}" if both else "")
        folders = [setting.folder(row, seed) for seed in seeds]
        lines.append(f"| {row.name} | {' | '.join(cells)} | {commits_of(folders)} |")
    return lines


def diverged_lines(setting: Setting, rows: Sequence[Row], seeds: Sequence[int]) -> list[str]:
    """The runs that ended because loss or gradients stayed non-finite."""
    found = [f"{row.name} (seed {seed})" for row in rows for seed in seeds
             if (setting.folder(row, seed) / DIVERGED_FILE).exists()]  # fmt: skip
    return ["", f"Diverged, and so in no table: {', '.join(found)}."] if found else []


def report_name(setting: Setting, topic: str, date: str) -> str:
    """The report's name without its suffix."""
    start = "scratch" if setting.start == SCRATCH else Path(setting.start).stem
    precision = "" if setting.amp == "off" else setting.amp
    device = "cpu" if setting.device == "cpu" else "gpu"
    parts = ("block_training", setting.data_name, start, precision, topic, device, date)
    return "_".join(part for part in parts if part)


def write_report(
    out: Path,
    setting: Setting,
    rows: Sequence[Row],
    seeds: Sequence[int],
    *,
    timed: bool = True,
    topic: str = "",
) -> None:
    """All finished runs: tables and claims as markdown, the curves as an image beside it.

    Without a finished run nothing is written. Not `timed`, seconds are omitted. A topic is part of
    the file's name.
    """
    runs = finished_runs(setting, rows, seeds)
    if not runs:
        return
    results = {row.name: [Result.read(setting.folder(row, seed)) for seed in seeds_of]
               for row, seeds_of in runs.items()}  # fmt: skip
    if not timed:
        results = {name: [replace(each, epoch_seconds=None) for each in of_row]
                   for name, of_row in results.items()}  # fmt: skip
    date = time.strftime("%Y-%m-%d")
    name = report_name(setting, topic, date)
    lines = [
        f"# Block families from {setting.start} on {setting.data_name}, {date}",
        "",
        *_introduction(setting),
        "",
        *accuracy_table(setting, runs, results),
        *diverged_lines(setting, rows, seeds),
        *(["", "The package yolov5 computes in float32 on a CPU."] if PEER in runs else []),
        "",
        f"{TIMES if timed else NO_TIMES} Memory is that of the tensors on a GPU, else of the "
        "process with its images.",
        "",
        *cost_table(setting, runs, results),
        "",
        *_claims(results),
        "",
        f"![AP and training loss]({name}.png)",
        "",
    ]
    _save_curves(out / f"{name}.png", setting, runs)
    write_text(out / f"{name}.md", "\n".join(lines))


def _claims(results: Mapping[str, Sequence[Result]]) -> list[str]:
    """What the runs say of the articles' claims, and how the verdicts are meant."""
    return [
        "Claims ([claims](../claims.md)). Confirmed: the 95 % interval lies above 0; contradicted: "
        "below 0; not seen: it holds 0 and is below what is claimed; undecided: neither, or an AP "
        f"below {MIN_MEANINGFUL_AP:g}, at which networks that have learned little are alike.",
        "",
        *ap_sentences(results),
        *cost_sentences(results),
        *kernel_sentences(results),
        *teacher_sentences(results),
    ]


def _introduction(setting: Setting) -> list[str]:
    """What was trained, how differences are measured, and on which machine."""
    return [
        f"yolov5n, {setting.image_size} px, {setting.epochs} epochs, an optimizer step per batch "
        f"of {setting.batch_size} (nbs: {setting.batch_size}), {warmup_epochs(setting):g} epochs "
        f"of warm-up, otherwise {HYP}, `--amp {setting.amp}`, evaluated every "
        f"{'epoch' if setting.eval_interval == 1 else f'{setting.eval_interval} epochs'}. "
        f"Data: {setting.data_set.title}. COCO AP of each run's best checkpoint. Differences to "
        "plain: of the means, in standard errors over seeds (pooled variance), and the 95 % "
        "interval over both seeds (Student's t) and images (paired bootstrap); per seed the "
        "interval over images alone. Intervals are not corrected for their number.",
        "",
        f"{machine_line()} Each run had {counted(setting.threads, 'thread')}. Made by "
        "`python -m experiments.block_training`.",
    ]


def _save_curves(path: Path, setting: Setting, runs: Finished) -> None:
    figure, axes = make_figure((11, 4.5), 1, 2)
    for number, (row, finished) in enumerate(runs.items()):
        for seed in finished:
            folder = setting.folder(row, seed)
            label = row.name if seed == finished[0] else None
            style = {"color": line_color(number), "label": label, "alpha": 0.8}
            axes[0, 0].plot(*ap_curve(folder), **style)
            axes[0, 1].plot(loss_curve(folder), **style)
    style_axes(axes[0, 0], "COCO AP on val, one line per seed", "epoch", "AP")
    style_axes(axes[0, 1], "training loss", "epoch", "loss")
    axes[0, 0].legend(fontsize=7)
    save_figure(figure, path)
