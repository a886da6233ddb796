"""What finished runs say of the articles' claims (docs/claims.md), in sentences."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.block_runs import with_teacher
from experiments.run_comparison import Difference, Result

Results = Mapping[str, Sequence[Result]]  # by name of the row


@dataclass(frozen=True, slots=True)
class Claim:
    """That the AP of one row is higher than that of another.

    Attributes:
        number: in docs/claims.md.
        text: the claim in short.
        better: name of the row.
        than: name of the other row.
        at_least: AP by which it is better, 0-1; 0 where the article gives none.
    """

    number: str
    text: str
    better: str
    than: str
    at_least: float = 0.0


_PLAIN, _REPVGG, _OREPA = "plain", "RepVGG, start=plain", "OREPA, start=paper"
CLAIMS = (
    Claim("C1", "RepVGG blocks gain a point", _REPVGG, _PLAIN, 0.01),
    Claim("C1", "also as the paper starts them", "RepVGG, start=paper", _PLAIN, 0.01),
    Claim("C2", "RepVGG with LeakyReLU loses half a point against plain with SiLU", _PLAIN,
          "RepVGG, LeakyReLU", 0.005),
    Claim("C2", "SiLU is better than LeakyReLU in plain networks", _PLAIN, "plain, LeakyReLU",
          0.005),
    Claim("C8", "a scale per channel is better than one per branch", _OREPA,
          "OREPA, one scale per branch"),
    Claim("C8", "a scale per channel is better than none", _OREPA, "OREPA, no scales"),
    Claim("C8", "the norm after the sum is needed", _OREPA, "OREPA, no norm after the sum"),
    Claim("C9", "OREPA gains 0.2 to 0.6 points over DBB", "OREPA, start=plain", "DBB", 0.002),
    Claim("C9", "OREPA gains 0.2 to 0.6 points over RepVGG", "OREPA, start=plain", _REPVGG, 0.002),
    Claim("C10", "straight networks gain 0.25 points by branches of their own",
          "straight, OREPAVGG", "straight, OREPA", 0.0025),
    Claim("C11", "ACB gains 0.8 points", "ACB", _PLAIN, 0.008),
    Claim("C11", "the 1x3 kernel contributes", "ACB", "ACB without 1x3"),
    Claim("C11", "the 3x1 kernel contributes", "ACB", "ACB without 3x1"),
    Claim("C11", "the norms of the branches contribute", "ACB", "ACB without branch norms"),
)  # fmt: skip


def ap_sentences(results: Results) -> list[str]:
    """A line of markdown for each claim whose two rows have runs."""
    lines = []
    for claim in CLAIMS:
        if claim.better in results and claim.than in results:
            found = Difference.between(results[claim.than], results[claim.better])
            size = f", claimed {claim.at_least:+.4f}" if claim.at_least else ""
            lines.append(
                f"- {claim.number}, {claim.text}: **{found.verdict(claim.at_least)}**. "
                f"{claim.better} against {claim.than}: {found}{size}."
            )
    return lines


def cost_sentences(results: Results) -> list[str]:
    """C9's time and memory, against DBB and RepVGG."""
    lines = []
    costs = {name: costs_of(runs) for name, runs in results.items()}
    plain, orepa = costs.get(_PLAIN), costs.get("OREPA, start=plain")
    for name in ("DBB", _REPVGG):
        other = costs.get(name)
        if plain is None or orepa is None or other is None or other[1] <= plain[1]:
            continue
        faster, extra = other[0] / orepa[0], (orepa[1] - plain[1]) / (other[1] - plain[1])
        verdict = "confirmed" if faster >= 1.5 and extra <= 0.35 else "not seen"
        lines.append(
            f"- C9, OREPA trains 1.5 to 2.3 times as fast as {name} with 65 to 75 % less extra "
            f"memory: **{verdict}**. {faster:.2f} times as fast; {100 * (1 - extra):.0f} % less "
            f"extra memory ({orepa[1] - plain[1]:.0f}, {other[1] - plain[1]:.0f} MB over plain)."
        )
    return lines


def costs_of(runs: Sequence[Result]) -> tuple[float, float] | None:
    """Median seconds of an epoch and median peak MB of a row; None where they are not known."""
    seconds = [run.epoch_seconds for run in runs if run.epoch_seconds is not None]
    memory = [run.peak_memory_mb for run in runs if run.peak_memory_mb is not None]
    if not seconds or not memory:
        return None
    return statistics.median(seconds), statistics.median(memory)


def kernel_sentences(results: Results) -> list[str]:
    """C12, from the mean magnitude of 3x3 kernels by position, 1 for a layer's largest."""
    lines = []
    for name in ("plain", "ACB"):
        parts = [kernel_parts(run) for run in results.get(name, ())]
        if parts:
            corners, cross, centre = np.mean(parts, axis=0)
            ordered = sum(low < middle < high for low, middle, high in parts)
            verdict = "confirmed" if ordered == len(parts) else "not seen"
            lines.append(
                f"- C12, {name}: corners below the cross, and this below the centre: "
                f"**{verdict}** in {ordered} of {len(parts)} runs. Corners {corners:.3f}, cross "
                f"{cross:.3f}, centre {centre:.3f}; the article has, with ACB, below 0.400, above "
                "0.666, and 1."
            )
    return lines


def teacher_sentences(results: Results) -> list[str]:
    """What a teacher adds to each row that was trained with and without one."""
    return [
        f"- {name} with a teacher: {Difference.between(runs, results[with_teacher(name)])}."
        for name, runs in results.items()
        if with_teacher(name) in results
    ]


def kernel_parts(run: Result) -> tuple[float, float, float]:
    """Mean magnitude of corners, cross without the centre, and centre."""
    grid = np.array(run.figures["skeleton"])
    corners = grid[::2, ::2].mean()
    cross = np.mean([grid[0, 1], grid[1, 0], grid[1, 2], grid[2, 1]])
    return float(corners), float(cross), float(grid[1, 1])
