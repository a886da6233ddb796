"""Rows of the benchmark's table: ours, the peer, the floor and the goal, and what must agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.measurement import Spread
from benchmarks.rounds import Found

HEAD = (
    "| stage | unit | ours | peer | ours / peer | floor | ours / floor | goal | met |",
    "|---|---|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True, slots=True)
class Goal:
    """What a row should reach.

    Attributes:
        text: for the table.
        limit: what the median is at most; None has no figure.
        of: the ratio to the peer's time, our time in the row's unit, or what it is beyond the
            floor in that unit.
    """

    text: str
    limit: float | None = None
    of: Literal["peer", "time", "beyond"] = "peer"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table.

    Attributes:
        title: what is done; may have {count} and {imgsz} of the run.
        ours: the series' name.
        peer: its; empty for none.
        floor: its; empty for none.
        unit: of the times.
        scale: seconds to this unit.
        goal: what it should reach.
    """

    title: str
    ours: str
    peer: str = ""
    floor: str = ""
    unit: str = "ms/image"
    scale: float = 1e3
    goal: Goal | None = None

    def is_met(self, found: Found) -> bool | None:
        """Whether the goal is reached; None where that cannot be told."""
        if self.goal is None or self.goal.limit is None:
            return None
        spreads = {
            "peer": found.ratios(self.ours, self.peer),
            "time": found.spread(self.ours, self.scale),
            "beyond": found.beyond(self.ours, self.floor, self.scale),
        }
        spread = spreads[self.goal.of]
        return None if spread is None else spread.median <= self.goal.limit

    def line(self, found: Found) -> str:
        """In Markdown, under HEAD."""
        met = {None: "", True: "yes", False: "no"}[self.is_met(found)]
        goal = "" if self.goal is None else self.goal.text
        title = self.title.format_map(found.setting)
        cells = (
            title, self.unit, _text(found.spread(self.ours, self.scale)),
            self._of_peer(found), _text(found.ratios(self.ours, self.peer)),
            _text(found.spread(self.floor, self.scale)),
            _text(found.ratios(self.ours, self.floor)), goal, met,
        )  # fmt: skip
        return f"| {' | '.join(cells)} |"

    def _of_peer(self, found: Found) -> str:
        spread = found.spread(self.peer, self.scale)
        if spread is None and self.peer:
            return "skipped"
        return _text(spread)


@dataclass(frozen=True, slots=True)
class Agreement:
    """A fact that two series state alike in every round.

    Attributes:
        fact: its name.
        ours: a series.
        other: another one.
        relative: allowed difference, as a part of the larger value.
        absolute: allowed difference besides.
    """

    fact: str
    ours: str
    other: str
    relative: float = 0.0
    absolute: float = 0.0

    def differing(self, found: Found) -> tuple[float, float] | None:
        """The first two values that differ by more than is allowed."""
        for mine, theirs in self._pairs(found):
            if not math.isclose(mine, theirs, rel_tol=self.relative, abs_tol=self.absolute):
                return mine, theirs
        return None

    def line(self, found: Found) -> str:
        """Of the report; empty where one of the series was not measured."""
        pairs = self._pairs(found)
        if not pairs:
            return ""
        allowed = [f"{self.relative:g} of it" if self.relative else "",
                   f"{self.absolute:g}" if self.absolute else ""]  # fmt: skip
        within = " or ".join(each for each in allowed if each)
        differing = self.differing(found)
        mine, theirs = differing or pairs[-1]
        verdict = f"equal within {within}" if within else "equal"
        if differing is not None:
            verdict = f"NOT {verdict}"
        return f"{self.fact}: {self.ours} {mine:.10g}, {self.other} {theirs:.10g}: {verdict}"

    def _pairs(self, found: Found) -> list[tuple[float, float]]:
        mine, theirs = found.values(self.ours, self.fact), found.values(self.other, self.fact)
        return [(float(mine[each]), float(theirs[each])) for each in mine if each in theirs]


def _text(spread: Spread | None) -> str:
    return "" if spread is None else spread.as_text()


def stage_lines(rows: Sequence[Row], agreements: Sequence[Agreement], found: Found) -> list[str]:
    """The rows of one stage as a table of their own, then what agrees and what was skipped."""
    lines = [*HEAD, *(row.line(found) for row in rows), ""]
    lines += [f"- {line}" for each in agreements if (line := each.line(found))]
    lines += [f"- {name}: skipped: {reason}" for name, reason in found.skipped.items()]
    if "skipped" in found.setting["peer"]:
        lines.append(f"- peer: skipped: {found.setting['peer']['skipped']}")
    return lines
