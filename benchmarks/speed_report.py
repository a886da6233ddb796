"""The speed test's figures as a dated markdown report; every ratio is computed from the blocks."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.speed_networks import (
    BLOCKS,
    CANDIDATES,
    FOLDED,
    FORMS,
    INT8,
    LEAKY,
    NOT_FOLDED,
    ONNX,
    PLAIN,
    SILU,
    TimedNetwork,
)
from experiments.training_runs import current_commit
from utils.machine import processor_name
from utils.output_files import write_text

STAGES = ("decode", "preprocess", "inference", "postprocess")
LOW, HIGH = 5, 95  # percentiles of blocks, within which a ratio is given
MIN_BLOCKS = 20  # fewer have no such percentiles, and nothing is concluded from them


@dataclass(frozen=True, slots=True)
class Claim:
    """A comparison that the article makes.

    Attributes:
        number: as this project counts the article's claims.
        text: what the article says of the time per image.
        first: name, activation and form of the network it speaks of.
        other: of what that is compared with.
    """

    number: str
    text: str
    first: tuple[str, str, str]
    other: tuple[str, str, str]


CLAIMS = (
    *(Claim("C2", "15 % faster", (BLOCKS, LEAKY, form), (PLAIN, SILU, form)) for form in FORMS[1:]),
    *(Claim("C2", "mostly from dropping SiLU", (PLAIN, LEAKY, form), (PLAIN, SILU, form))
      for form in FORMS[1:]),
    *(Claim("C3", "20 % slower", (BLOCKS, SILU, NOT_FOLDED), (PLAIN, SILU, form))
      for form in (NOT_FOLDED, FOLDED)),
    *(Claim("C4", "never slower: 14 to 16 ms", (BLOCKS, SILU, form), (PLAIN, SILU, form))
      for form in FORMS[1:]),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measurement:
    """A block of images with one network, or the first image of a process.

    Attributes:
        network: its key.
        turn: count of the run, number of the run, number of the block.
        ms: (N, 4) milliseconds of STAGES.
        found: objects in all images.
        open_s: seconds to open the network, of a process's first image; None in a block.
    """

    network: str
    turn: tuple[int, int, int]
    ms: np.ndarray[Any, np.dtype[np.float64]]
    found: int = 0
    open_s: float | None = None

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Measurement:
        """What a line of the measurement's file says."""
        if "cold" in entry:
            turn, times = (0, entry["cold"], 0), np.array([entry["ms"]])
            return cls(entry["network"], turn, times, open_s=entry["open_s"])
        turn = entry["count"], entry["run"], entry["block"]
        return cls(entry["network"], turn, np.array(entry["ms"]), entry["found"])


class Speed:
    """All measurements of a test.

    Attributes:
        networks: in the order of the report.
        counts: images of a run.
    """

    def __init__(
        self,
        networks: Sequence[TimedNetwork],
        counts: Sequence[int],
        measurements: Sequence[Measurement],
    ) -> None:
        self.networks, self.counts = networks, counts
        self._warm = {(each.network, each.turn): each for each in measurements
                      if each.open_s is None}  # fmt: skip
        self._cold = [each for each in measurements if each.open_s is not None]
        self._turns = sorted({turn for _, turn in self._warm})
        self._runs = sorted({turn[:2] for turn in self._turns})

    def images(self, key: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """(N, 4) milliseconds of every image, of all runs."""
        return np.concatenate([self._warm[key, turn].ms for turn in self._turns])

    def found_per_image(self, key: str) -> float:
        """Objects per image."""
        blocks = [self._warm[key, turn] for turn in self._turns]
        return sum(block.found for block in blocks) / sum(len(block.ms) for block in blocks)

    def run_means(self, key: str, count: int) -> list[float]:
        """Mean milliseconds per image of each run with `count` images."""
        return [self._mean(key, run) for run in self._runs if run[0] == count]

    def block_ratios(self, key: str, other: str) -> list[float]:
        """Time per image of one network divided by another's, block by block (medians)."""
        return [self._median(key, turn) / self._median(other, turn) for turn in self._turns]

    def run_ratios(self, key: str, other: str) -> list[float]:
        """The same, run by run (means)."""
        return [self._mean(key, run) / self._mean(other, run) for run in self._runs]

    def cold(self, key: str) -> tuple[list[float], list[float]]:
        """Seconds to open a network and milliseconds of its first image, of each process."""
        mine = [each for each in self._cold if each.network == key]
        return [each.open_s or 0.0 for each in mine], [float(each.ms.sum()) for each in mine]

    def _median(self, key: str, turn: tuple[int, int, int]) -> float:
        return float(np.median(self._warm[key, turn].ms.sum(1)))

    def _mean(self, key: str, run: tuple[int, ...]) -> float:
        turns = [turn for turn in self._turns if turn[:2] == run]
        return float(np.concatenate([self._warm[key, turn].ms.sum(1) for turn in turns]).mean())


def write_report(out: Path, speed: Speed, setting: Mapping[str, Any]) -> str:
    """Write the report into the folder `out`; returns the article's table for the console."""
    date = time.strftime("%Y-%m-%d")
    table = articles_table(speed)
    lines = [
        f"# Speed test, {date}", "", *_head(setting), "", "## Time per image", "",
        "Mean milliseconds per image of each run, all stages.", "", *table, "",
        "## Stages", "",
        "Milliseconds per image: median (quartiles) over all images of all runs.", "",
        *_stages_table(speed), "", "## The first image of a process", "",
        "Libraries are imported before; median (lowest to highest) of the processes.", "",
        *_cold_table(speed),
    ]  # fmt: skip
    claims = _claims_table(speed)
    if claims:
        lines += [
            "", "## The article's claims", "",
            "Ratio of the time per image, all stages: the median of all blocks, between brackets "
            f"the {LOW}th and {HIGH}th percentile of blocks, then each run's. Where the brackets "
            "hold 1, this test shows no difference.", "", *claims,
        ]  # fmt: skip
    write_text(out / f"speed_test_cpu_{date}.md", "\n".join(lines) + "\n")
    return "\n".join(table) + "\n"


def articles_table(speed: Speed) -> list[str]:
    """A row per network, a column per number of images: `14 / 14 / 14`, one of each run."""
    columns = [f"{count:,} images" for count in speed.counts]
    lines = [f"| network | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for network in speed.networks:
        cells = [
            " / ".join(f"{ms:.1f}" for ms in speed.run_means(network.key, count))
            for count in speed.counts
        ]
        lines.append(f"| {network.key} | {' | '.join(cells)} |")
    return lines


def _stages_table(speed: Speed) -> list[str]:
    columns = ("network", *STAGES, "sum", "objects per image")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for network in speed.networks:
        times = speed.images(network.key)
        stages = [*times.T, times.sum(1)]
        cells = [_quartiles(each) for each in stages]
        found = f"{speed.found_per_image(network.key):.1f}"
        lines.append(f"| {network.key} | {' | '.join([*cells, found])} |")
    return lines


def _quartiles(values: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    low, median, high = np.percentile(values, (25, 50, 75))
    return f"{median:.2f} ({low:.2f}-{high:.2f})"


def _cold_table(speed: Speed) -> list[str]:
    lines = ["| network | open, s | first image, ms | warm, ms |", "|---|---|---|---|"]
    for network in speed.networks:
        opened, first = speed.cold(network.key)
        warm = float(np.median(speed.images(network.key).sum(1)))
        cells = (_range(opened, 2), _range(first, 0), f"{warm:.1f}")
        lines.append(f"| {network.key} | {' | '.join(cells)} |")
    return lines


def _range(values: Sequence[float], decimals: int) -> str:
    low, middle, high = (
        f"{each:.{decimals}f}" for each in (min(values), statistics.median(values), max(values))
    )
    return f"{middle} ({low}-{high})"


def _claims_table(speed: Speed) -> list[str]:
    """A row per claim whose networks are there; none at all where they are the user's."""
    keys = {(each.name, each.activation, each.form): each.key for each in speed.networks}
    rows = []
    for claim in CLAIMS:
        if claim.first not in keys or claim.other not in keys:
            continue
        pair = keys[claim.first], keys[claim.other]
        ratios = speed.block_ratios(*pair)
        low, high = np.percentile(ratios, (LOW, HIGH))
        middle = statistics.median(ratios)
        runs = " / ".join(f"{ratio:.2f}" for ratio in speed.run_ratios(*pair))
        rows.append(
            f"| {claim.number} | {claim.text} | {pair[0]} | {pair[1]} | "
            f"{middle:.2f} ({low:.2f}-{high:.2f}) | {runs} | {verdict(ratios)} |"
        )
    head = ["| claim | the article | network | against | ratio | of each run | found |",
            "|---|---|---|---|---|---|---|"]  # fmt: skip
    return [*head, *rows] if rows else []


def verdict(ratios: Sequence[float]) -> str:
    """`12 % faster`, `20 % slower`, or that neither is shown by these blocks."""
    if len(ratios) < MIN_BLOCKS:
        return "too few blocks"
    low, high = np.percentile(ratios, (LOW, HIGH))
    middle = statistics.median(ratios)
    if low <= 1 <= high:
        return "no difference"
    return f"{abs(middle - 1):.0%} {'slower' if middle > 1 else 'faster'}".replace("%", " %")


def _head(setting: Mapping[str, Any]) -> list[str]:
    import onnxruntime

    size, count = setting["image_size"], setting["images"]
    again = ", read again and again" if max(setting["counts"]) > count else ""
    return [
        f"One image at a time, letterboxed to {size} x {size} px, by detect.py's code in one "
        f"thread; the network on {setting['threads']}. {count} images of "
        f"`{Path(setting['source']).name}`{again}, files in memory. The networks take turns, a "
        f"block of images each, another one first each time; {setting['repeats']} runs.",
        "",
        *_standard_networks(setting["networks"]),
        f"Machine: {processor_name()}, no GPU. Python {platform.python_version()}, torch "
        f"{torch.__version__}, onnxruntime {onnxruntime.__version__}, OpenCV {cv2.__version__}, "
        f"numpy {np.__version__}; {setting['threads']} threads, OpenCV "
        f"{setting['opencv_threads']}. Commit {current_commit()}. Made by "
        "`python -m benchmarks.speed_test`.",
    ]  # fmt: skip


def _standard_networks(keys: Sequence[str]) -> list[str]:
    """What the test's own networks are; nothing about the user's."""
    if not any(key.startswith(f"{BLOCKS}, ") for key in keys):
        return []
    return [
        f"{PLAIN} and {BLOCKS} have random weights, on which the time of a network does not "
        f"depend; {BLOCKS} computes what {PLAIN} does. Their heads are set so that about "
        f"{CANDIDATES} boxes of an image go into suppression. `{NOT_FOLDED}` is the checkpoint as "
        f"it was trained, `{FOLDED}` what detect.py runs, both in PyTorch; `{ONNX}` and `{INT8}` "
        "(`qdq-u8`) in onnxruntime.",
        "",
    ]
