"""The tables of the ablations, as one dated markdown report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.kernel_pruning import PRUNED_SHARES, REGIONS
from experiments.training_runs import commits_of, machine_line, mean_and_spread
from utils.output_files import write_text

# Heading, what the articles say, rows, and the row the differences are taken from.
SECTIONS = (
    (
        "Scaling, and the norm after the sum (OREPA)",
        "The article: one scale per channel is better than one per branch or none; without the "
        "norm after the sum gradients grow without bound; norms in the branches, as in DBB, "
        "do no better.",
        ("OREPA", "OREPA, one scale per branch", "OREPA, no scales",
         "OREPA, no norm after the sum", "DBB, a norm in each branch", "plain"),
    ),
    (
        "A straight network needs all three branches (OREPA on RepVGG-style nets)",
        "The article: where no residual helps, 1x1 and identity must stay branches of their own.",
        ("straight, OREPAVGG", "straight, OREPA", "straight, RepVGG", "straight, plain"),
    ),
    (
        "Every part of an asymmetric block matters (ACB)",
        "The article: the horizontal kernel, the vertical kernel and the norms of the branches "
        "each help.",
        ("ACB", "ACB without 1x3", "ACB without 3x1", "ACB without branch norms", "plain"),
    ),
)  # fmt: skip

Reports = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class TrainedKernels:
    """Statistics of the 3x3 kernels of a trained checkpoint.

    Attributes:
        skeleton: (3, 3) mean magnitude per position of the merged kernels, 1 is the largest.
        similarity: mean |cosine| between any two branches; None where there is one branch.
    """

    skeleton: npt.NDArray[np.float64]
    similarity: float | None


@dataclass(frozen=True, slots=True)
class Findings:
    """All results, by row of the table and seed; a row may lack the last seeds.

    Attributes:
        reports: train.py's reports.
        rotated: AP on rotated images.
        pruned: region of the kernel -> AP without zeros, then at each share of them.
        kernels: statistics of the trained kernels.
    """

    reports: Reports
    rotated: Mapping[str, Sequence[float]]
    pruned: Mapping[str, Sequence[Mapping[str, Sequence[float]]]]
    kernels: Mapping[str, Sequence[TrainedKernels]]


def write_report(out: Path, findings: Findings, folders: Sequence[Path]) -> None:
    """Write the report into the folder `out`; `folders` are those of all runs."""
    date = time.strftime("%Y-%m-%d")
    reports = findings.reports
    lines = [
        f"# Ablations of block families, {date}",
        "",
        "Blood cells (bccd), networks of yolov5n's size from scratch, 40 epochs at 224 px, batch "
        "16, float32. COCO AP on the 87 validation images: mean (standard deviation over "
        "seeds). With so few images, epochs and seeds only differences well above the spread say "
        "anything; the articles trained ImageNet for 100 epochs and more.",
        "",
        f"{machine_line()} Trained on commits {commits_of(folders)}. Made by `python -m "
        "experiments.ablations`.",
    ]
    for heading, said, rows in SECTIONS:
        lines += _section(heading, said, rows, reports)
    lines += _rotation(reports, findings.rotated)
    lines += _skeletons(findings.kernels)
    lines += _pruning(findings.pruned)
    lines += _similarities(findings.kernels)
    path = out / f"block_ablations_cpu_{date}.md"
    write_text(path, "\n".join(lines) + "\n")


def _section(heading: str, said: str, rows: Sequence[str], reports: Reports) -> list[str]:
    first = [report["AP"] for report in reports[rows[0]]]
    lines = ["", f"## {heading}", "", said, ""]
    lines += [f"| network | seeds | AP | against {rows[0]}, seed by seed | skipped steps |",
              "|---|---|---|---|---|"]  # fmt: skip
    for row in rows:
        values = [report["AP"] for report in reports[row]]
        if not values:
            continue
        gaps = [value - other for value, other in zip(values, first, strict=False)]
        skipped = ", ".join(str(report["skipped_steps"]) for report in reports[row])
        gap = "" if row == rows[0] else ", ".join(f"{value:+.3f}" for value in gaps)
        cells = (row, str(len(values)), mean_and_spread(values), gap, skipped)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _rotation(reports: Reports, rotated: Mapping[str, Sequence[float]]) -> list[str]:
    lines = [
        "", "## Images turned by 180 degrees", "",
        "The article: a horizontal kernel, which looks the same upside down, helps most when test "
        "images are turned.", "",
        "| network | AP | AP, turned |", "|---|---|---|",
    ]  # fmt: skip
    for row, values in rotated.items():
        upright = [report["AP"] for report in reports[row]]
        lines.append(f"| {row} | {mean_and_spread(upright)} | {mean_and_spread(values)} |")
    return lines


def _skeletons(kernels: Mapping[str, Sequence[TrainedKernels]]) -> list[str]:
    lines = [
        "", "## Where the weight of trained 3x3 kernels lies", "",
        "Mean magnitude per position of the merged kernels, each layer's largest position being 1, "
        "mean over layers and seeds. The article: the centre is 1.000, in ACNet every other tap of "
        "the skeleton is above 0.666 and every corner below 0.400.", "",
        "| network | seeds | corners | skeleton without centre | centre |", "|---|---|---|---|---|",
    ]  # fmt: skip
    corners = np.array(REGIONS["corners"], bool)
    edges = ~corners
    edges[1, 1] = False
    for row, found in kernels.items():
        if not found:
            continue
        mean = np.mean([each.skeleton for each in found], axis=0)
        ranges = [(mean[taps].min(), mean[taps].max()) for taps in (corners, edges)]
        parts = [f"{low:.3f} to {high:.3f}" for low, high in ranges]
        lines.append(f"| {row} | {len(found)} | {' | '.join(parts)} | {mean[1, 1]:.3f} |")
    return lines


def _similarities(kernels: Mapping[str, Sequence[TrainedKernels]]) -> list[str]:
    lines = [
        "", "## How alike the branches of OREPA are", "",
        "Mean |cosine| between what any two branches add to the trained kernel. The article: "
        "without scales the branches grow alike.", "",
        "| network | seeds | mean cosine |", "|---|---|---|",
    ]  # fmt: skip
    for row, found in kernels.items():
        values = [each.similarity for each in found if each.similarity is not None]
        if "OREPA" in row and values:
            lines.append(f"| {row} | {len(values)} | {mean_and_spread(values)} |")
    return lines


def _pruning(pruned: Mapping[str, Sequence[Mapping[str, Sequence[float]]]]) -> list[str]:
    shares = " | ".join(f"{share:.0%}" for share in (0, *PRUNED_SHARES))
    lines = [
        "", "## Corner weights against skeleton weights", "",
        "AP after a share of all weights of the 3x3 kernels is set to zero, without training "
        "again: taken from the corners (4 of 9 taps), from the skeleton (the cross through the "
        "centre) or from anywhere. Networks started from yolov5n.pt and trained for 20 epochs at "
        "320 px. The article: the skeleton is worth more, in ACNet above all.",
        "", f"| network | seeds | zeros in | {shares} |",
        "|---|---|---|" + "---|" * (1 + len(PRUNED_SHARES)),
    ]  # fmt: skip
    for row, per_seed in pruned.items():
        for region in per_seed[0] if per_seed else ():
            columns = zip(*(found[region] for found in per_seed), strict=True)
            cells = " | ".join(mean_and_spread(values) for values in columns)
            lines.append(f"| {row} | {len(per_seed)} | {region} | {cells} |")
    return lines
