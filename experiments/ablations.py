"""Ablations of block families: `python -m experiments.ablations --shared DIR`.

Trains small networks without one part of a block, on blood cells at 224 px, each with every seed;
then rotates the validation images by 180 degrees, and sets corner or skeleton weights of trained
3x3 kernels to zero. A run that has a report already is not repeated. `--seeds 0 1` trains fewer
seeds, and the report holds every finished run; `--only TEXT` trains the rows with TEXT in their
name and writes no report.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from experiments.ablation_report import Findings, TrainedKernels, write_report
from experiments.kernel_pruning import PRUNED_SHARES, REGIONS, save_pruned
from experiments.rotated_images import write_rotated_val
from experiments.training_runs import REPORTS, ROOT, bccd_yaml, run_folder, run_script, train_once
from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.kernel_statistics import layer_kernels, mean_similarity, skeleton
from utils.logs import configure_logging

logger = logging.getLogger(__name__)
EPOCHS, IMAGE_SIZE, BATCH_SIZE, SEEDS = 40, 224, 16, (0, 1, 2)
EXPANDED_SIZE = 320  # of experiments.expanded_training
YOLOV5N, STRAIGHT = "yolov5n.yaml", "experiments/straight_n.yaml"  # scripts run in the root


@dataclass(frozen=True, slots=True)
class Row:
    """A network and the block family of its 3x3 convolutions."""

    name: str
    rep_block: str
    cfg: str = YOLOV5N


ROWS = (
    Row("plain", "none"),
    Row("OREPA", "OREPA(start=paper)"),
    Row("OREPA, one scale per branch", "OREPA(start=paper, scaling=scalar)"),
    Row("OREPA, no scales", "OREPA(start=paper, scaling=none)"),
    Row("OREPA, no norm after the sum", "OREPA(start=paper, post_bn=false)"),
    Row("DBB, a norm in each branch", "DBB"),
    Row("ACB", "ACB"),
    Row("ACB without 1x3", "ACB(horizontal=false)"),
    Row("ACB without 3x1", "ACB(vertical=false)"),
    Row("ACB without branch norms", "ACB(branch_bn=false)"),
    Row("straight, plain", "none", STRAIGHT),
    Row("straight, RepVGG", "RepVGG", STRAIGHT),
    Row("straight, OREPA", "OREPA(start=paper)", STRAIGHT),
    Row("straight, OREPAVGG", "OREPAVGG", STRAIGHT),
)
ROTATED = ("plain", "ACB", "ACB without 1x3", "ACB without 3x1")
PRUNED = ("plain", "ACB")


def train_row(row: Row, seed: int, shared: Path, runs: Path) -> dict[str, Any]:
    """train.py's report of one row with one seed, trained unless it exists."""
    return train_once(
        run_folder(row.name, seed, runs),
        *("--cfg", row.cfg, "--rep-block", row.rep_block, "--eval-interval", "5"),
        *("--data", str(bccd_yaml(shared, runs)), "--epochs", str(EPOCHS)),
        *("--imgsz", str(IMAGE_SIZE), "--batch-size", str(BATCH_SIZE), "--seed", str(seed)),
    )


def evaluated_once(report: Path, weights: Path, data: Path, image_size: int) -> float:
    """AP of val.py on `data`, evaluated unless `report` exists."""
    if not report.exists():
        run_script(
            *("val.py", "--weights", str(weights), "--data", str(data), "--imgsz", str(image_size)),
            *("--batch-size", str(BATCH_SIZE), "--device", "cpu", "--workers", "2"),
            *("--project", str(report.parent / "val"), "--report", str(report)),
        )
    return float(json.loads(report.read_text())["AP"])


def rotated_AP(row: Row, seed: int, shared: Path, runs: Path) -> float:
    """AP on the validation images rotated by 180 degrees."""
    data = write_rotated_val(bccd_yaml(shared, runs), runs / "rotated")
    folder = run_folder(row.name, seed, runs)
    return evaluated_once(folder / "rotated.json", best_of(folder), data, IMAGE_SIZE)


def pruned_AP(folder: Path, data: Path, image_size: int) -> dict[str, list[float]]:
    """AP with growing shares of all 3x3 weights set to zero, taken from one region of the kernel.

    Returns:
        region -> AP without zeros, then at each of PRUNED_SHARES.
    """
    unpruned = evaluated_once(folder / "whole.json", best_of(folder), data, image_size)
    found: dict[str, list[float]] = {}
    for region in REGIONS:
        found[region] = [unpruned]
        for share in PRUNED_SHARES:
            weights = folder / f"pruned_{region}_{share}.pt"
            if not weights.exists():
                save_pruned(best_of(folder), weights, region, share)
            report = weights.with_suffix(".json")
            found[region].append(evaluated_once(report, weights, data, image_size))
    return found


def best_of(folder: Path) -> Path:
    """Path of the best checkpoint of a run."""
    return folder / "weights" / "best.pt"


def trained_kernels(folder: Path) -> TrainedKernels:
    """Weight distribution of a trained network's kernels, and similarity of its branches."""
    layers = layer_kernels(build_from_checkpoint(read_weights(best_of(folder))))
    _, cosines = mean_similarity(layers)
    pairs = cosines[np.triu_indices(len(cosines), 1)]
    return TrainedKernels(
        skeleton=skeleton([layer.merged for layer in layers]),
        similarity=float(np.nanmean(pairs)) if np.isfinite(pairs).any() else None,
    )


def _is_finished(row: Row, runs: Path, seed: int) -> bool:
    return (run_folder(row.name, seed, runs) / "report.json").exists()


def findings(shared: Path, runs: Path, expanded: Path) -> tuple[Findings, list[Path]]:
    """The results of all finished runs, and their folders.

    Args:
        shared: folder with data/.
        runs: of the networks trained from scratch here.
        expanded: of `experiments.expanded_training`, whose networks know COCO.
    """
    named = {row.name: row for row in ROWS}
    seeds = {row.name: list(takewhile(partial(_is_finished, row, runs), SEEDS)) for row in ROWS}
    folders = {
        name: [run_folder(name, seed, runs) for seed in found] for name, found in seeds.items()
    }
    from_coco = {
        f"{family}, from yolov5n.pt": [
            folder for seed in SEEDS if (folder := run_folder(family, seed, expanded)).exists()
        ]
        for family in PRUNED
    }
    data = bccd_yaml(shared, runs)
    scratch = {name: folders[name] for name in folders if name in PRUNED or "OREPA" in name}
    found = Findings(
        reports={
            name: [train_row(named[name], seed, shared, runs) for seed in seeds[name]]
            for name in named
        },
        rotated={
            name: [rotated_AP(named[name], seed, shared, runs) for seed in seeds[name]]
            for name in ROTATED
        },
        pruned={
            name: [pruned_AP(folder, data, EXPANDED_SIZE) for folder in of_row]
            for name, of_row in from_coco.items()
        },
        kernels={
            name: [trained_kernels(folder) for folder in of_row]
            for name, of_row in {**from_coco, **scratch}.items()
        },
    )
    return found, [folder for of_row in folders.values() for folder in of_row]


def main() -> None:
    """Train what is missing, then write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and weights/")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "ablations")
    parser.add_argument("--expanded", type=Path, default=ROOT / "runs" / "expanded",
                        help="runs of experiments.expanded_training")  # fmt: skip
    parser.add_argument("--out", type=Path, default=REPORTS)
    parser.add_argument(
        "--seeds", type=int, nargs="*", default=SEEDS, help="seeds to train; may be none"
    )
    parser.add_argument("--only", default="", help="train only rows with this in their name")
    arguments = parser.parse_args()
    configure_logging()
    shared, runs = arguments.shared.resolve(), arguments.runs.resolve()
    for seed in arguments.seeds:  # all rows with one seed before any with the next
        for row in ROWS:
            if arguments.only in row.name:
                AP = train_row(row, seed, shared, runs)["AP"]
                logger.info("%s seed %d: AP %.4f", row.name, seed, AP)
    if not arguments.only:
        write_report(arguments.out, *findings(shared, runs, arguments.expanded.resolve()))


if __name__ == "__main__":
    main()
