"""The tables of the ablations, as one dated markdown report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.kernel_pruning import PRUNED_SHARES
from experiments.training_runs import commits_of, machine_line, mean_and_spread

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


def write_report(
    out: Path,
    reports: Reports,
    rotated: Mapping[str, Sequence[float]],
    pruned: Mapping[str, Sequence[Mapping[str, Sequence[float]]]],
    folders: Sequence[Path],
) -> None:
    """Write the report.

    Args:
        out: folder of reports.
        reports: train.py's report per row and seed.
        rotated: AP on turned pictures per row and seed.
        pruned: per row and seed, region -> AP at each share.
        folders: of all runs.
    """
    date = time.strftime("%Y-%m-%d")
    seeds = len(next(iter(reports.values())))
    lines = [
        f"# Which part of a block matters, {date}",
        "",
        f"Blood cells (bccd), networks of yolov5n's size from scratch, 40 epochs at 224 px, batch "
        f"16, float32, {seeds} seeds. COCO AP on the 87 validation pictures: mean (standard "
        "deviation over seeds). With so few pictures and epochs only differences well above the "
        "spread say anything; the articles trained ImageNet for 100 epochs and more.",
        "",
        f"{machine_line()} Commits {commits_of(folders)}. Made by `python -m "
        "experiments.ablations`.",
    ]
    for heading, said, rows in SECTIONS:
        lines += _section(heading, said, rows, reports)
    lines += _rotation(reports, rotated)
    lines += _pruning(reports, pruned)
    path = out / f"block_ablations_cpu_{date}.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _section(heading: str, said: str, rows: Sequence[str], reports: Reports) -> list[str]:
    first = [report["AP"] for report in reports[rows[0]]]
    lines = ["", f"## {heading}", "", said, ""]
    lines += [f"| network | AP | against {rows[0]}, seed by seed | skipped steps |",
              "|---|---|---|---|"]  # fmt: skip
    for row in rows:
        values = [report["AP"] for report in reports[row]]
        gaps = [value - other for value, other in zip(values, first, strict=True)]
        skipped = ", ".join(str(report["skipped_steps"]) for report in reports[row])
        gap = "" if row == rows[0] else ", ".join(f"{value:+.3f}" for value in gaps)
        lines.append(f"| {row} | {mean_and_spread(values)} | {gap} | {skipped} |")
    return lines


def _rotation(reports: Reports, rotated: Mapping[str, Sequence[float]]) -> list[str]:
    lines = [
        "", "## Pictures turned by 180 degrees", "",
        "The article: a horizontal kernel, which looks the same upside down, helps most when test "
        "pictures are turned.", "",
        "| network | AP | AP, turned |", "|---|---|---|",
    ]  # fmt: skip
    for row, values in rotated.items():
        upright = [report["AP"] for report in reports[row]]
        lines.append(f"| {row} | {mean_and_spread(upright)} | {mean_and_spread(values)} |")
    return lines


def _pruning(
    reports: Reports, pruned: Mapping[str, Sequence[Mapping[str, Sequence[float]]]]
) -> list[str]:
    shares = " | ".join(f"{share:.0%}" for share in PRUNED_SHARES)
    lines = [
        "", "## Corner weights against skeleton weights", "",
        "AP after a share of all weights of the 3x3 kernels is set to zero, without training "
        "again: taken from the corners (4 of 9 taps), from the skeleton (the cross through the "
        "centre) or from anywhere. The article: the skeleton is worth more, in ACNet above all.",
        "", f"| network | zeros in | 0% | {shares} |",
        "|---|---|---|" + "---|" * len(PRUNED_SHARES),
    ]  # fmt: skip
    for row, per_seed in pruned.items():
        whole = mean_and_spread([report["AP"] for report in reports[row]])
        for region in per_seed[0]:
            cells = [
                mean_and_spread([found[region][number] for found in per_seed])
                for number in range(len(PRUNED_SHARES))
            ]
            lines.append(f"| {row} | {region} | {whole} | {' | '.join(cells)} |")
    return lines
