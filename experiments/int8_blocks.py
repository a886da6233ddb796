"""AP of block families in 8 bits: `python -m experiments.int8_blocks --shared DIR`.

Trains repyolov5n-npu (yolov5n with a 3x3 stem and ReLU) on blood cells from scratch, with plain
convolutions, RepVGG and QARepVGG blocks, each with every seed; folds it, and measures AP in float32
and in 8 bits with a scale per channel and per tensor. A run that has a report already is not
repeated; `--seeds` trains fewer, `--only` some families and writes no report.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
from pathlib import Path
from typing import Any

from torch import nn

from experiments.training_runs import (
    REPORTS,
    ROOT,
    bccd_yaml,
    commits_of,
    machine_line,
    mean_and_spread,
    run_folder,
    run_script,
    train_once,
)
from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.conversion.deploy import to_deploy
from utils.logs import configure_logging
from utils.output_files import write_text

logger = logging.getLogger(__name__)
CFG, EPOCHS, IMAGE_SIZE, BATCH_SIZE, SEEDS = "repyolov5n-npu.yaml", 60, 224, 16, (0, 1, 2)
FAMILIES = ("none", "RepVGG", "QARepVGG")
GRANULARITIES = ("per_channel", "per_tensor")


def train_family(family: str, seed: int, shared: Path, runs: Path) -> dict[str, Any]:
    """train.py's report of one family with one seed, trained unless it exists."""
    return train_once(
        run_folder(family, seed, runs),
        *("--cfg", CFG, "--rep-block", family, "--eval-interval", "5"),
        *("--data", str(bccd_yaml(shared, runs)), "--epochs", str(EPOCHS)),
        *("--imgsz", str(IMAGE_SIZE), "--batch-size", str(BATCH_SIZE), "--seed", str(seed)),
    )


def measured(family: str, seed: int, runs: Path, granularity: str) -> dict[str, Any]:
    """export.py's report of a trained network with scales per channel or per tensor."""
    folder = run_folder(family, seed, runs)
    report = folder / f"{granularity}.json"
    if not report.exists():
        flags = () if granularity == "per_channel" else ("--per-tensor",)
        run_script(
            "export.py", "--weights", str(folder / "weights" / "best.pt"), "--int8", *flags,
            "--data", str(runs / "bccd.yaml"), "--imgsz", str(IMAGE_SIZE), "--workers", "2",
            "--calibration", "minmax", "--max-drop", "100", "--output",
            str(folder / f"{granularity}.onnx"), "--report", str(report),
        )  # fmt: skip
    (entry,) = json.loads(report.read_text())["files"]
    found: dict[str, Any] = entry
    return found


def kurtosis(family: str, seed: int, runs: Path) -> float:
    """Mean kurtosis of the folded 3x3 kernels; 3 for a normal distribution, more with outliers."""
    network = to_deploy(
        build_from_checkpoint(read_weights(run_folder(family, seed, runs) / "weights" / "best.pt"))
    )
    found = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            weights = module.weight.double().flatten()
            centred = weights - weights.mean()
            found.append(float((centred**4).mean() / (centred**2).mean() ** 2))
    return statistics.mean(found)


def write_report(out: Path, runs: Path) -> None:
    """Write the table of all finished runs as a dated markdown report into `out`."""
    date = time.strftime("%Y-%m-%d")
    seeds = {
        family: [s for s in SEEDS if (run_folder(family, s, runs) / "report.json").exists()]
        for family in FAMILIES
    }
    folders = [run_folder(family, seed, runs) for family in FAMILIES for seed in seeds[family]]
    lines = [
        f"# 8 bits and block families, {date}",
        "",
        f"{CFG.removesuffix('.yaml')} (3x3 stem, ReLU) with three kinds of 3x3 convolutions, from "
        f"scratch on blood cells (bccd), {IMAGE_SIZE} px, {EPOCHS} epochs, batch {BATCH_SIZE}. The "
        "folded networks have the same graph. Preset `qdq-u8`, minmax on 100 images of train; AP "
        "on val (87 images), mean (standard deviation) over seeds; points lost by each seed in "
        "turn. Kurtosis is that of the folded 3x3 kernels, mean of layers.",
        "",
        f"{machine_line()} Trained on commit {commits_of(folders)}. "
        "Made by `python -m experiments.int8_blocks`.",
        "",
        "| blocks | seeds | float32 AP | 8 bits, scale per channel | points lost | 8 bits, scale "
        "per tensor | points lost | kurtosis |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for family in FAMILIES:
        cells = []
        for granularity in GRANULARITIES:
            entries = [measured(family, seed, runs, granularity) for seed in seeds[family]]
            lost = [100 * (entry["AP_float"] - entry["AP"]) for entry in entries]
            cells.append(mean_and_spread([entry["AP"] for entry in entries]))
            cells.append(", ".join(f"{points:.1f}" for points in lost))
        floats = mean_and_spread([entry["AP_float"] for entry in entries])
        shape = statistics.mean(kurtosis(family, seed, runs) for seed in seeds[family])
        name = "plain" if family == "none" else family
        lines.append(
            f"| {name} | {len(seeds[family])} | {floats} | {' | '.join(cells)} | {shape:.0f} |"
        )
    path = out / f"int8_blocks_cpu_{date}.md"
    write_text(path, "\n".join(lines) + "\n")


def main() -> None:
    """Train what is missing, then measure and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "int8_blocks")
    parser.add_argument("--out", type=Path, default=REPORTS)
    parser.add_argument(
        "--seeds", type=int, nargs="*", default=SEEDS, help="seeds to train; may be none"
    )
    parser.add_argument("--only", nargs="*", help="train only these families, and write no report")
    arguments = parser.parse_args()
    configure_logging()
    shared, runs = arguments.shared.resolve(), arguments.runs.resolve()
    for seed in arguments.seeds:
        for family in arguments.only or FAMILIES:
            AP = train_family(family, seed, shared, runs)["AP"]
            logger.info("%s seed %d: AP %.4f", family, seed, AP)
    if arguments.only is None:
        write_report(arguments.out, runs)


if __name__ == "__main__":
    main()
