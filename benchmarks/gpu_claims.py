"""What the figures of `benchmarks.gpu` say about the articles' claims, as ratios."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu_inference import FOLDED, KERNELS, NOT_FOLDED, density_name
from benchmarks.gpu_setting import BLOCKS
from benchmarks.measurement import Spread
from experiments.block_costs import PLAIN, ratios

Sections = Mapping[str, Any]
OREPA, DBB, STEM = "OREPA", "DBB", "OREPA(pointwise=true, stem=true)"


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim and what was measured.

    Attributes:
        number: as this project counts the articles' claims; empty for a goal of its own.
        compared: what with what.
        said: by the article, or the goal.
        measured: the ratio, with its spread where there are rounds.
    """

    number: str
    compared: str
    said: str
    measured: str


def claims(sections: Sections, networks: tuple[str, str]) -> list[Claim]:
    """All claims for which there are figures.

    Args:
        sections: as `benchmarks.gpu` writes them; some may lack.
        networks: names of the plain network and of the one with RepVGG blocks.
    """
    found: list[Claim] = []
    makers: dict[str, Callable[[], Iterator[Claim]]] = {
        "inference": lambda: _inference_claims(sections["inference"], networks),
        "families": lambda: _step_claims(sections["families"]["ms"]),
        "memory": lambda: _memory_claims(sections["memory"]["peak_mb"]),
        "density": lambda: _density_claims(sections["density"]["tflop_per_s"]),
    }
    for name, make in makers.items():
        if name in sections and "reason" not in sections[name]:
            found += make()
    return sorted(found, key=lambda claim: (claim.number or "D", claim.compared))


def ratio(values: list[float], others: list[float]) -> str:
    """Median, lowest and highest of the ratios round by round."""
    return Spread(tuple(ratios(values, others))).as_text(2)


def _inference_claims(section: Sections, networks: tuple[str, str]) -> Iterator[Claim]:
    ms, (plain, blocks) = section["ms_per_image"], networks
    suffixes = [key.removeprefix(f"{plain}, {FOLDED}, ") for key in ms
                if key.startswith(f"{plain}, {FOLDED}, ")]  # fmt: skip
    for suffix in suffixes:

        def of(name: str, form: str, suffix: str = suffix) -> list[float]:
            values: list[float] = ms[f"{name}, {form}, {suffix}"]
            return values

        yield Claim("C3", f"{blocks} / {plain}, both as trained, {suffix}", "1.2",
                    ratio(of(blocks, NOT_FOLDED), of(plain, NOT_FOLDED)))  # fmt: skip
        yield Claim("C4", f"{blocks} / {plain}, both folded, {suffix}", "at most 1",
                    ratio(of(blocks, FOLDED), of(plain, FOLDED)))  # fmt: skip
        yield Claim("C4", f"{blocks} folded / {plain} as trained, {suffix}", "14 / 16 = 0.88",
                    ratio(of(blocks, FOLDED), of(plain, NOT_FOLDED)))  # fmt: skip
        yield Claim("C7", f"{blocks}, time folded / as trained, {suffix}", "below 1",
                    ratio(of(blocks, FOLDED), of(blocks, NOT_FOLDED)))  # fmt: skip
    peaks = section["peak_mb"]
    key = f"{blocks}, {FOLDED}, {suffixes[-1]}"
    other = f"{blocks}, {NOT_FOLDED}, {suffixes[-1]}"
    if peaks[other] > 0:
        yield Claim("C7", f"{blocks}, memory of activations folded / as trained, {suffixes[-1]}",
                    "below 1", f"{peaks[key] / peaks[other]:.2f}")  # fmt: skip


def _step_claims(ms: Mapping[str, list[float]]) -> Iterator[Claim]:
    if BLOCKS in ms:
        yield Claim("C5", f"training step, {BLOCKS} / plain", "somewhat longer",
                    ratio(ms[BLOCKS], ms[PLAIN]))  # fmt: skip
    for family in (OREPA, STEM):
        if family not in ms:
            continue
        goal = "about 1; goal: at most 1.15"
        yield Claim("C9", f"training step, {family} / plain", goal, ratio(ms[family], ms[PLAIN]))
        for other in (DBB, BLOCKS):
            if other in ms:
                yield Claim("C9", f"training step, {other} / {family}", "1.5 to 2.3",
                            ratio(ms[other], ms[family]))  # fmt: skip


def _memory_claims(peak: Mapping[str, float]) -> Iterator[Claim]:
    plain = peak[PLAIN]
    if plain <= 0:  # on a CPU, of memory that was there already
        return
    if BLOCKS in peak:
        yield Claim("C5", f"training memory, {BLOCKS} / plain", "1.05 to 1.10",
                    f"{peak[BLOCKS] / plain:.2f}")  # fmt: skip
    for family in (OREPA, STEM):
        if family not in peak:
            continue
        yield Claim("C9", f"training memory, {family} / plain", "about 1; goal: at most 1.10",
                    f"{peak[family] / plain:.2f}")  # fmt: skip
        for other in (DBB, BLOCKS):
            if other in peak and peak[other] > plain:
                saved = 1 - (peak[family] - plain) / (peak[other] - plain)
                yield Claim("C9", f"memory beyond plain that {family} saves of {other}'s",
                            "65 % to 75 %", f"{100 * saved:.0f} %")  # fmt: skip


def _density_claims(tflops: Mapping[str, list[float]]) -> Iterator[Claim]:
    precisions = dict.fromkeys(key.partition(",")[0] for key in tflops)
    for precision in precisions:
        for kernel in KERNELS:
            if kernel != 3:
                yield Claim(
                    "C7", f"FLOP/s of a 3 x 3 / {kernel} x {kernel} convolution, {precision}",
                    "up to 4",
                    ratio(tflops[density_name(precision, 3)],
                          tflops[density_name(precision, kernel)]),
                )  # fmt: skip
