"""The figures of `benchmarks.gpu` as markdown; every figure is computed from the rounds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.gpu_claims import claims, ratio
from benchmarks.gpu_inference import KERNELS, PRECISIONS, density_name, network_names
from benchmarks.gpu_training import PEER
from benchmarks.measurement import Spread, table
from experiments.block_costs import PLAIN

Section = Mapping[str, Any]
MISSING = "-"


def report_text(found: Mapping[str, Any]) -> str:
    """All tables; a section that was not measured says why.

    Args:
        found: what `benchmarks.gpu` wrote as JSON.
    """
    sections = found["sections"]
    lines = [
        f"# Training and inference on {found['card']}, {found['date']}", "",
        *(["**A rehearsal with small sizes: the figures mean nothing.**", ""]
          if found["rehearsal"] else []),
        f"{found['machine']} Commit {found['commit']}. Made by `{found['command']}` in "
        f"{found['seconds']:.0f} s. What is compared took turns; medians of all rounds, in "
        "brackets the lowest and the highest; ratios are of the same round.", "",
    ]  # fmt: skip
    setting = found["setting"]
    lines += ["## The articles' claims", ""]
    lines += table(
        ("claim", "compared", "said", "measured"),
        [(each.number, each.compared, each.said, each.measured)
         for each in claims(sections, network_names(setting["cfg"]))],
    )  # fmt: skip
    writers: dict[str, tuple[str, Callable[[Section], list[str]]]] = {
        "families": ("Training, a step of each block family", lambda s: _families(s, sections)),
        "variants": ("Precision and memory format", _variants),
        "parts": ("Parts of a step", _parts),
        "compiled": ("torch.compile", _compiled),
        "inference": ("Inference", _inference),
        "density": ("Convolutions by kernel size", _density),
        "loading": ("The training loader", _loading),
    }
    for name, (title, write) in writers.items():
        lines += ["", f"## {title}", ""]
        section = sections.get(name, {"reason": "the run ended before"})
        lines += [f"Not measured: {section['reason']}."] if "reason" in section else write(section)
        lines += ["", f"It ended early: {section['end']}."] if "end" in section else []
    return "\n".join(lines) + "\n"


def _rate(images: float, ms: Sequence[float]) -> str:
    """Images per second."""
    return f"{statistics.median(1e3 * images / value for value in ms):.0f}"


def _families(section: Section, sections: Section) -> list[str]:
    ms, images = section["ms"], section["images"]
    peak = sections.get("memory", {}).get("peak_mb", {})
    plain = peak.get(PLAIN, 0.0)  # on a CPU, of memory that was there already, 0 or less
    rows = []
    for family, values in ms.items():
        mb = section["peer"].get("peak_mb") if family == PEER else peak.get(family)
        rows.append((
            family, _rate(images, values), ratio(values, ms[PLAIN]),
            MISSING if mb is None else f"{mb:.0f}",
            MISSING if mb is None or plain <= 0 else f"{mb / plain:.2f}",
        ))  # fmt: skip
    lines = table(("blocks", "images/s", "step / plain", "peak, MB", "peak / plain"), rows)
    peer = section["peer"]
    note = (
        f"{PEER} was not measured: {peer['reason']}."
        if "reason" in peer
        else f"{PEER}: its own loop in a process of its own, package yolov5 {peer['version']}, as "
        "its train.py runs it: AMP, not channels last."
    )
    skipped = {name: count for name, count in section["skipped_steps"].items() if count}
    more = f" Steps skipped while the scale of the loss was found: {skipped}." if skipped else ""
    return [*lines, "", f"{note}{more}"]


def _variants(section: Section) -> list[str]:
    ms, images = section["ms"], section["images"]
    first = next(iter(ms))
    rows = [(name, _rate(images, values), ratio(values, ms[first])) for name, values in ms.items()]
    return table(("training", "images/s", f"time / {first}"), rows)


def _parts(section: Section) -> list[str]:
    ms = section["ms"]
    lines = [f"Loss and its gradient / whole step: {ratio(ms['loss'], ms['step'])}."]
    if "synchronisations" in section:
        found, batches = section["synchronisations"], section["batches"]
        for name, title in (("of_batches", f"{batches} batches"), ("of_epoch", "an epoch besides")):
            counts = found[name]
            where = "; ".join(f"{line} {count}" for line, count in counts.items())
            total = sum(counts.values())
            lines += ["", f"The host waits for the GPU {total} times in {title}. {where}".strip()]
    return lines


def _compiled(section: Section) -> list[str]:
    rows = []
    for family, each in section["of"].items():
        if "reason" in each:
            rows.append((family, f"not measured: {each['reason']}", *[MISSING] * 3))
            continue
        eager, fast = each["ms"]["eager"], each["ms"]["compiled"]
        rows.append((family, _rate(section["images"], fast), ratio(fast, eager),
                     f"{each['first_s']:.0f}", _pays(each, section["images"])))  # fmt: skip
    return table(
        ("blocks", "images/s", "time / not compiled", "first call, s", "pays after images"), rows
    )


def _pays(each: Section, images: int) -> str:
    """Images of training after which the seconds of the first call are won back."""
    eager, fast = (statistics.median(each["ms"][name]) for name in ("eager", "compiled"))
    if fast >= eager:
        return "never"
    extra = each["first_s"] - fast / 1e3
    return f"{max(extra, 0) / ((eager - fast) / 1e3) * images:.0f}"


def _inference(section: Section) -> list[str]:
    rows = [
        (name, Spread(tuple(values)).as_text(3), f"{section['peak_mb'][name]:.0f}")
        for name, values in section["ms_per_image"].items()
    ]
    return table(("network", "ms per image", "activations at most, MB"), rows)


def _density(section: Section) -> list[str]:
    tflops = section["tflop_per_s"]
    rows = [
        (precision, *(f"{statistics.median(tflops[density_name(precision, kernel)]):.1f}"
                      for kernel in KERNELS))
        for precision in PRECISIONS
    ]  # fmt: skip
    head = ("TFLOP/s", *(f"{kernel} x {kernel}" for kernel in KERNELS))
    return [f"{section['convolution']}.", "", *table(head, rows)]


def _loading(section: Section) -> list[str]:
    rows = [(name, Spread(tuple(values)).as_text(0))
            for name, values in section["images_per_s"].items()]  # fmt: skip
    head = f"{section['cores']} cores, mosaic, affine, HSV and flip; {section['source']}."
    return [head, "", *table(("", "images/s"), rows)]
