"""The report of all stages in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.measurement import digits_after
from benchmarks.rounds import Found
from benchmarks.rows import HEAD
from benchmarks.stage import Stage

BUSY = 0.5  # processes that run before the first stage, from which on the report warns
INTRODUCTION = """In every round ours, the peer and the floor take one turn each. Times are medians
over rounds (lowest to highest); ratios are taken within rounds, below 1 is faster. A floor is what
cannot be saved by writing the stage another way; each stage says what it is. The peer is YOLOv5 as
PyPI has it, in a Python of its own that is kept alive between rounds; whole processes are started
anew by both sides."""


def report_text(found: Mapping[Stage, Found]) -> str:
    """The whole report.

    Args:
        found: of each stage, at least one, in the order of the table.
    """
    settings = [each.setting for each in found.values()]
    lines = [f"# CPU benchmark of every stage, {_all(settings, 'date')}", "", INTRODUCTION, ""]
    lines += [_machine(settings, next(iter(found.values())).load), "", *HEAD]
    lines += [row.line(each) for stage, each in found.items() for row in stage.rows]
    for stage, each in found.items():
        lines += ["", f"## {stage.name}", "", *_stage_text(stage, each)]
    return "\n".join(lines) + "\n"


def _machine(settings: Sequence[Mapping[str, Any]], load: float | None) -> str:
    """Processor, versions, commit and load."""
    first = settings[0]
    versions = ", ".join(f"{name} {each}" for name, each in first["versions"].items())
    theirs = first["peer"]
    others = {name: each for name, each in theirs.items() if each != first["versions"].get(name)}
    peer = ", ".join(f"{name} {each}" for name, each in others.items())
    peer = "skipped" if "skipped" in theirs else f"{peer}, the rest as ours"
    busy = "" if load is None or load < BUSY else ": the machine was BUSY, measure again"
    loaded = "unknown" if load is None else f"{load:.2f}{busy}"
    return (
        f"Machine: {_all(settings, 'machine')}, {_all(settings, 'cores')} cores. Python "
        f"{_all(settings, 'python')}, {versions}. Peer: {peer}. Commit "
        f"{_all(settings, 'commit')}. Load before: {loaded}. Made by `python -m benchmarks.bench`."
    )


def _all(settings: Sequence[Mapping[str, Any]], key: str) -> str:
    """The values of all stages, which usually are one."""
    return " and ".join(dict.fromkeys(str(setting[key]) for setting in settings))


def _stage_text(stage: Stage, found: Found) -> list[str]:
    """What is measured, the floor, all series, and what agrees."""
    setting, row = found.setting, stage.rows[0]
    unit, scale = row.unit, row.scale
    flags = " ".join(f"--{name} {setting[name]}" for name in ("rounds", "imgsz", "count"))
    lines = [
        f"{stage.title.format_map(setting)}. Floor: {stage.floor}. "
        f"`python -m benchmarks.{stage.name} {flags}`", "",
        f"| series | {unit} | rounds | found in the last round |", "|---|---|---|---|",
    ]  # fmt: skip
    for name, seconds in found.seconds.items():
        spread = found.spread(name, scale)
        text = "" if spread is None else spread.as_text()
        facts = list(found.facts.get(name, {}).values())
        said = ", ".join(f"{key} {_figure(value)}" for key, value in (facts or [{}])[-1].items())
        lines.append(f"| {name} | {text} | {len(seconds)} | {said} |")
    agreements = [line for each in stage.agreements if (line := each.line(found))]
    skipped = [f"{name}: skipped: {reason}" for name, reason in found.skipped.items()]
    if "skipped" in setting["peer"]:
        skipped.append(f"peer: skipped: {setting['peer']['skipped']}")
    notes = [*agreements, *skipped]
    return [*lines, *([""] if notes else []), *(f"- {note}" for note in notes)]


def _figure(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.{digits_after(value, 4)}f}"
    return str(value)
