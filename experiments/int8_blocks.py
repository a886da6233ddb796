"""Which block family keeps its AP in 8 bits: `python -m experiments.int8_blocks --shared DIR`.

Trains repyolov5n-npu (yolov5n with a 3x3 stem and ReLU) on blood cells from scratch, with plain
convolutions, RepVGG and QARepVGG blocks, each with every seed; folds it, and measures AP in float32
and in 8 bits with a scale per channel and per tensor. A run that has its report already is not
repeated; `--seeds` and `--only` train a part of them and write no report.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from experiments.training_runs import ROOT, bccd_yaml, train_once
from utils.logs import configure_logging

logger = logging.getLogger(__name__)
CFG, EPOCHS, IMAGE_SIZE, BATCH_SIZE, SEEDS = "repyolov5n-npu.yaml", 60, 224, 16, (0, 1, 2)
FAMILIES = ("none", "RepVGG", "QARepVGG")


def train_family(family: str, seed: int, shared: Path, runs: Path) -> dict[str, Any]:
    """The report of one family with one seed."""
    return train_once(
        runs / f"{family}_seed{seed}",
        *("--cfg", CFG, "--rep-block", family, "--eval-interval", "5"),
        *("--data", str(bccd_yaml(shared, runs)), "--epochs", str(EPOCHS)),
        *("--imgsz", str(IMAGE_SIZE), "--batch-size", str(BATCH_SIZE), "--seed", str(seed)),
    )


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "int8_blocks")
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS, help="seeds to train")
    parser.add_argument("--only", nargs="*", default=FAMILIES, help="families to train")
    arguments = parser.parse_args()
    configure_logging()
    shared, runs = arguments.shared.resolve(), arguments.runs.resolve()
    for seed in arguments.seeds:
        for family in arguments.only:
            AP = train_family(family, seed, shared, runs)["AP"]
            logger.info("%s seed %d: AP %.4f", family, seed, AP)


if __name__ == "__main__":
    main()
