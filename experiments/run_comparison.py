"""Finished runs compared: differences of AP, how sure they are, and what they say of a claim.

Two things make a difference uncertain: seeds, since another one trains another network, and images,
since others would be easier or harder. The first is the spread between runs (Student's t with
pooled variance), the second a paired bootstrap over images of the mean over seeds. They are
independent, so the half-widths of the two 95 % intervals add as squares.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.limited_training import epochs_of
from experiments.run_evaluation import DRAWS_FILE, FIGURES_FILE
from utils.metrics.coco import MIN_MEANINGFUL_AP

COVERAGE = 0.95


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run.

    Attributes:
        figures: what `run_evaluation` measured, by name.
        draws: (1 + R,) AP on the images, and on R mixtures of them.
        epoch_seconds: median over epochs; None where no epoch was timed.
        peak_memory_mb: the most that its last process took; None where that is not known.
    """

    figures: dict[str, Any]
    draws: npt.NDArray[np.float64]
    epoch_seconds: float | None
    peak_memory_mb: float | None

    @classmethod
    def read(cls, folder: Path) -> Result:
        """The run in a folder, trained and evaluated."""
        seconds = [each["seconds"] for each in epochs_of(folder) if each["seconds"] is not None]
        report = folder / "report.json"  # of train.py; the package yolov5 writes none
        trained = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
        return cls(
            json.loads((folder / FIGURES_FILE).read_text(encoding="utf-8")),
            np.load(folder / DRAWS_FILE),
            statistics.median(seconds) if seconds else None,
            trained.get("peak_memory_mb"),
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """By how much the second of two rows is higher in AP.

    Attributes:
        mean: of the means over seeds.
        level: the lower of those means.
        seeds: of the first and the second row.
        standard_error: of the mean, from the spread between seeds; None with one seed each.
        images: ends of the 95 % interval by bootstrap over images, seeds as they are.
        interval: ends of the 95 % interval over both; None with one seed each.
    """

    mean: float
    level: float
    seeds: tuple[int, int]
    standard_error: float | None
    images: tuple[float, float]
    interval: tuple[float, float] | None

    @classmethod
    def between(cls, first: Sequence[Result], second: Sequence[Result]) -> Difference:
        """Of two rows with at least one run each."""
        sides = [[float(run.draws[0]) for run in side] for side in (first, second)]
        means = [statistics.mean(side) for side in sides]
        mean, level, counts = means[1] - means[0], min(means), (len(first), len(second))
        images, error = image_interval(first, second), standard_error(*sides)
        if error is None:
            return cls(mean, level, counts, None, images, None)
        seeds = t_quantile(sum(counts) - 2) * error
        half = float(np.hypot(seeds, (images[1] - images[0]) / 2))
        return cls(mean, level, counts, error, images, (mean - half, mean + half))

    def verdict(self, at_least: float) -> str:
        """What it says of the claim that the second row is better by `at_least`.

        Networks that have learned next to nothing are alike, which is no finding.
        """
        if self.interval is None:
            return "undecided"
        low, high = self.interval
        if low > 0:
            return "confirmed"
        if high < 0:
            return "contradicted"
        has_learned = self.level >= MIN_MEANINGFUL_AP
        return "not seen" if has_learned and high < at_least else "undecided"

    def __str__(self) -> str:
        """`+0.0120 (+2.1 se, 3 and 3 seeds; 95 %: -0.0010 to +0.0250)`."""
        seeds = f"{self.seeds[1]} and {self.seeds[0]} seeds"
        if self.standard_error is None or self.interval is None:
            low, high = self.images
            return f"{self.mean:+.4f} ({seeds}; over images alone {low:+.4f} to {high:+.4f})"
        low, high = self.interval
        errors = self.mean / self.standard_error if self.standard_error else float("inf")
        return f"{self.mean:+.4f} ({errors:+.1f} se, {seeds}; 95 %: {low:+.4f} to {high:+.4f})"


def image_interval(first: Sequence[Result], second: Sequence[Result]) -> tuple[float, float]:
    """Ends of the interval of the second's mean AP over the first's, over mixtures of images."""
    means = [np.mean([run.draws[1:] for run in side], axis=0) for side in (first, second)]
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(means[1] - means[0], (tail, 1 - tail)).tolist()
    return low, high


def standard_error(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Of the difference of two means, with pooled variance; None with one value each."""
    freedom = len(first) + len(second) - 2
    if freedom < 1:
        return None
    squares = sum((len(side) - 1) * statistics.variance(side)
                  for side in (first, second) if len(side) > 1)  # fmt: skip
    return float((squares / freedom * (1 / len(first) + 1 / len(second))) ** 0.5)


def t_quantile(freedom: int) -> float:
    """How many standard errors the two-sided 95 % interval reaches."""
    from scipy.stats import t  # here: slow to import

    return float(t.ppf((1 + COVERAGE) / 2, freedom))
