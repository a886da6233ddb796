"""yolov5n.pt through each block family: `python -m experiments.expanded_training --shared DIR`.

For each family: AP of yolov5n.pt on coco128 before and after it is expanded into the family, and
after it is converted back (`convert.py --data` refuses a difference in the fourth decimal); then
training on blood cells from the expanded checkpoint. A run that has a report already is not
repeated. Last, a training step of each family is timed: run nothing else then. `--only X Y`
trains these families and writes no report.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
from pathlib import Path
from typing import Any

from experiments.block_costs import PLAIN, Setting, ratios, training_ms
from experiments.training_runs import (
    REPORTS,
    ROOT,
    ap_curve,
    bccd_yaml,
    commits_of,
    machine_line,
    mean_and_spread,
    run_folder,
    run_script,
    train_once,
)
from utils.logs import configure_logging
from utils.output_files import write_text
from utils.plots.figure import line_color, make_figure, save_figure, style_axes
from utils.strict_yaml import read_yaml, write_yaml

logger = logging.getLogger(__name__)
EPOCHS, IMAGE_SIZE, BATCH_SIZE, STEP_ROUNDS = 20, 320, 16, 7
OREPA = "OREPA(start=paper)"
SEEDS = {PLAIN: (0, 1, 2), "RepVGG": (0, 1, 2), OREPA: (0, 1, 2)}  # the others: one
FAMILIES = (
    PLAIN, "RepVGG", OREPA, "RepConvN", "ACB", "DBB", "MobileOne", "QARepVGG", "OREPAVGG",
)  # fmt: skip


def start_weights(family: str, shared: Path, runs: Path) -> Path:
    """yolov5n.pt expanded into the family, by convert.py unless it exists."""
    official = shared / "weights" / "yolov5n.pt"
    if family == PLAIN:
        return official
    runs.mkdir(parents=True, exist_ok=True)
    expanded = runs / f"yolov5n-{family}.pt"
    if not expanded.exists():
        run_script("convert.py", "--weights", str(official), "--to", "train",
                   "--rep-block", family, "--output", str(expanded))  # fmt: skip
    return expanded


def train_family(family: str, seed: int, shared: Path, runs: Path) -> dict[str, Any]:
    """The report of training from the expanded checkpoint with one seed."""
    return train_once(
        run_folder(family, seed, runs),
        *("--weights", str(start_weights(family, shared, runs))),
        *("--data", str(bccd_yaml(shared, runs)), "--epochs", str(EPOCHS)),
        *("--imgsz", str(IMAGE_SIZE), "--batch-size", str(BATCH_SIZE), "--seed", str(seed)),
    )


def coco128_AP(family: str, shared: Path, runs: Path) -> dict[str, float]:
    """AP of yolov5n.pt, of its expanded form, and of that one converted back, by convert.py."""
    shipped = read_yaml(ROOT / "data" / "datasets" / "coco128.yaml")
    data = runs / "coco128.yaml"
    write_yaml(data, {**shipped, "path": str(shared / "data" / "coco128")})
    expanded = start_weights(family, shared, runs)
    steps = {
        "expanded": (
            str(shared / "weights" / "yolov5n.pt"),
            "--to",
            "train",
            "--rep-block",
            family,
        ),
        "back": (str(expanded), "--to", "deploy"),
    }
    values: dict[str, float] = {}
    for name, (weights, *flags) in steps.items():
        report = runs / f"coco128_{family}_{name}.json"
        if not report.exists():
            run_script(
                "convert.py", *("--weights", weights), *flags,
                *("--output", str(runs / f"coco128_{family}_{name}.pt"), "--report", str(report)),
                *("--data", str(data), "--imgsz", "640", "--batch-size", "8"),
                *("--device", "cpu", "--workers", "2"),
            )  # fmt: skip
        found = json.loads(report.read_text())["AP"]
        values.setdefault("official", found["before"])
        values[name] = found["after"]
    return values


def write_report(
    out: Path,
    reports: dict[str, list[dict[str, Any]]],
    coco128: dict[str, dict[str, float]],
    steps: dict[str, list[float]],
    runs: Path,
) -> None:
    """Both tables as markdown, and the AP curves as an image beside them."""
    date = time.strftime("%Y-%m-%d")
    figure, axes = make_figure((8, 4.5), 1, 1)
    all_folders = [run_folder(f, seed, runs) for f in reports for seed in SEEDS.get(f, (0,))]
    lines = [
        f"# Block families started from yolov5n.pt, {date}", "",
        f"{machine_line()} Trained on commits {commits_of(all_folders)}. Made by "
        "`python -m experiments.expanded_training`.", "",
        "## The same AP before, expanded, and converted back", "",
        "COCO AP of ultralytics' yolov5n.pt on coco128 at 640 px.", "",
        "| blocks | official | expanded | converted back |", "|---|---|---|---|",
    ]  # fmt: skip
    for family, found in coco128.items():
        cells = (f"{found[name]:.6f}" for name in ("official", "expanded", "back"))
        lines.append(f"| {family} | {' | '.join(cells)} |")
    lines += [
        "", f"## Blood cells (bccd), {EPOCHS} epochs from there", "",
        f"COCO AP on the 87 validation images, best checkpoint of each run, {IMAGE_SIZE} px, "
        f"batch {BATCH_SIZE}, hyp.scratch-low, float32. The plain network's seeds differ by "
        "chance alone: differences of that size say nothing, and a single seed says little. The "
        f"training step (same size and batch, {STEP_ROUNDS} interleaved rounds, nothing else "
        "running) is the median ratio to the plain network's.", "",
        "| blocks | seeds | AP per seed | AP mean (sd) | AP50 | step / plain |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for number, (family, results) in enumerate(reports.items()):
        values = [result["AP"] for result in results]
        AP50 = mean_and_spread([result["AP50"] for result in results])
        per_seed = ", ".join(f"{value:.3f}" for value in values)
        lines.append(
            f"| {family} | {len(values)} | {per_seed} | {mean_and_spread(values)} | {AP50} "
            f"| {statistics.median(ratios(steps[family], steps[PLAIN])):.2f} |"
        )
        for seed in range(len(results)):
            curve = ap_curve(run_folder(family, seed, runs))
            label = family if seed == 0 else None
            axes[0, 0].plot(*curve, color=line_color(number), label=label, alpha=0.8)
    style_axes(axes[0, 0], "COCO AP on val after each epoch, one line per seed", "epoch", "AP")
    axes[0, 0].legend(fontsize=8)
    image = out / f"expanded_training_cpu_{date}.png"
    save_figure(figure, image)
    lines += ["", f"![AP after each epoch]({image.name})"]
    write_text(image.with_suffix(".md"), "\n".join(lines) + "\n")


def main() -> None:
    """Train what is missing, then write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and weights/")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "expanded")
    parser.add_argument("--out", type=Path, default=REPORTS)
    parser.add_argument("--only", nargs="*", default=FAMILIES, choices=FAMILIES,
                        help="train these alone, and write no report")  # fmt: skip
    arguments = parser.parse_args()
    configure_logging()
    shared, runs = arguments.shared.resolve(), arguments.runs.resolve()
    reports: dict[str, list[dict[str, Any]]] = {family: [] for family in arguments.only}
    for seed in range(3):  # all families with one seed before any with the next
        for family in arguments.only:
            if seed in SEEDS.get(family, (0,)):
                reports[family].append(train_family(family, seed, shared, runs))
                logger.info("%s seed %d: AP %.4f", family, seed, reports[family][-1]["AP"])
    if tuple(arguments.only) == FAMILIES:
        coco128 = {f: coco128_AP(f, shared, runs) for f in FAMILIES if f != PLAIN}
        setting = Setting(cfg="yolov5n.yaml", image_size=IMAGE_SIZE, batch_size=BATCH_SIZE,
                          rounds=STEP_ROUNDS)  # fmt: skip
        write_report(arguments.out, reports, coco128, training_ms(setting), runs)


if __name__ == "__main__":
    main()
