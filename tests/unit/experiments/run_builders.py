"""Finished runs without training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.limited_training import EPOCHS_FILE
from experiments.run_comparison import Result
from experiments.run_evaluation import DRAWS_FILE, FIGURES, FIGURES_FILE

HEAD = ("epoch,      train/box_loss, train/obj_loss, train/cls_loss, metrics/mAP_0.5, "
        "metrics/mAP_0.5:0.95")  # fmt: skip
SKELETON = [[0.4, 0.6, 0.4], [0.6, 1.0, 0.6], [0.4, 0.6, 0.4]]


def figures_of(AP: float) -> dict[str, object]:
    """As `run_evaluation` writes them."""
    figures = {name: 2 * AP if name == "AP50" else AP for name in FIGURES}
    counted = {name: value / 2 for name, value in figures.items()}
    return {**figures, "crowds_counted": counted, "skeleton": SKELETON}


def draws_of(AP: float, spread: float = 0.0) -> np.ndarray:
    """AP on the images, and on 1000 mixtures of them, evenly from AP - spread to AP + spread."""
    return np.append(AP, AP + spread * np.linspace(-1, 1, 1000))


def result(
    AP: float, *, spread: float = 0.0, seconds: float | None = 1.0, memory: float | None = 1.0,
    skeleton: Sequence[Sequence[float]] = SKELETON,
) -> Result:  # fmt: skip
    """A run of that AP."""
    return Result({**figures_of(AP), "skeleton": skeleton}, draws_of(AP, spread), seconds, memory)


def write_run(folder: Path, AP: float, *, seconds: float = 2.0, memory: float = 100.0) -> None:
    """The files of a run of two epochs, the second of which was evaluated."""
    folder.mkdir(parents=True)
    (folder / FIGURES_FILE).write_text(json.dumps(figures_of(AP)))
    np.save(folder / DRAWS_FILE, draws_of(AP))
    (folder / "commit.txt").write_text("abc1234")
    (folder / "results.csv").write_text(f"{HEAD}\n0, .1, .2, .3, , \n1, .1, .1, .2, .2, {AP}\n")
    (folder / "report.json").write_text(json.dumps({"peak_memory_mb": memory}))
    lines = [{"epoch": 0, "seconds": None}, {"epoch": 1, "seconds": seconds}]
    (folder / EPOCHS_FILE).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
