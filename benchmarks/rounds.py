"""Rounds in which everything that is compared takes one turn, and what they found.

A machine that slows down slows all contestants of a round, so ratios are taken within rounds.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measured_file import MeasuredFile, read_measured
from benchmarks.measurement import PeerFailedError, Spread

logger = logging.getLogger(__name__)
PAUSE = 0.1  # seconds before a turn: threads of the runtime before keep spinning for a while


@dataclass(frozen=True, slots=True)
class Turn:
    """What a contestant measured in one round.

    Attributes:
        seconds: as the stage counts them: of one image, one step or one run.
        facts: what it found, to be compared with the others, or noted.
        also: seconds of its parts, by the names of their series.
    """

    seconds: float
    facts: Mapping[str, Any] = field(default_factory=dict)
    also: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Contestant:
    """Something that is measured.

    Attributes:
        name: of its series.
        turn: measures it once; a contestant warms itself up where that matters.
        at_most: rounds in which it takes part, for a slow one.
    """

    name: str
    turn: Callable[[], Turn]
    at_most: int = 1000


def timed(work: Callable[[], object], repeats: int = 1, count: int = 1) -> float:
    """Median seconds of `repeats` calls after one that is not counted.

    Args:
        work: is called.
        repeats: calls that count.
        count: what a call does so many of; the seconds are of one.
    """
    work()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return statistics.median(found) / count


def run_rounds(
    contestants: Sequence[Contestant], rounds: int, measured: MeasuredFile, *, rotate: bool = True
) -> None:
    """Measure what `measured` lacks.

    A contestant of the peer that fails is skipped from then on, with its reason.

    Args:
        contestants: in the order of the first round.
        rounds: how many.
        measured: gets an entry for each turn.
        rotate: another one begins in each round, so that none always follows the slowest.

    Raises:
        RunFailedError: one of ours failed.
    """
    skipped = {entry["skipped"] for entry in measured.entries if "skipped" in entry}
    for number in range(rounds):
        first = number % len(contestants) if rotate else 0
        for contestant in [*contestants[first:], *contestants[:first]]:
            name = contestant.name
            if number >= contestant.at_most or name in skipped:
                continue
            if measured.has(round=number, series=name):
                continue
            time.sleep(PAUSE)
            try:
                turn = contestant.turn()
            except PeerFailedError as error:
                logger.warning("%s: skipped: %s", name, error)
                skipped.add(name)
                measured.add({"skipped": name, "reason": str(error)})
                continue
            logger.info("  round %d, %s: %.4g s", number + 1, name, turn.seconds)
            measured.add(
                {"round": number, "series": name, "seconds": turn.seconds,
                 "facts": dict(turn.facts), "also": dict(turn.also)}
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """What the rounds of a stage found.

    Attributes:
        setting: what was measured and how.
        seconds: of each series, by round.
        facts: of each series, by round.
        skipped: series that the peer could not measure, with the reason.
        load: processes that ran or waited before the first round; None where unknown.
    """

    setting: Mapping[str, Any]
    seconds: Mapping[str, Mapping[int, float]]
    facts: Mapping[str, Mapping[int, Mapping[str, Any]]]
    skipped: Mapping[str, str]
    load: float | None = None

    @classmethod
    def read(cls, path: Path) -> Found:
        """From the file of a stage.

        Raises:
            ConfigError: it is not measured yet.
        """
        setting, entries = read_measured(path)
        return cls.of(setting, entries)

    @classmethod
    def of(cls, setting: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> Found:
        """From the entries of `run_rounds`."""
        seconds: dict[str, dict[int, float]] = {}
        facts: dict[str, dict[int, Mapping[str, Any]]] = {}
        turns = [entry for entry in entries if "round" in entry]
        for entry in turns:
            found = {entry["series"]: entry["seconds"], **entry["also"]}
            for name, value in found.items():
                seconds.setdefault(name, {})[entry["round"]] = value
            facts.setdefault(entry["series"], {})[entry["round"]] = entry["facts"]
        skipped = {entry["skipped"]: entry["reason"] for entry in entries if "skipped" in entry}
        load = next((entry["load"] for entry in entries if "load" in entry), None)
        return cls(setting, seconds, facts, skipped, load)

    def spread(self, name: str, scale: float = 1.0) -> Spread | None:
        """Seconds of a series times `scale`; None where it was not measured."""
        values = tuple(self.seconds.get(name, {}).values())
        return Spread(tuple(value * scale for value in values)) if values else None

    def ratios(self, name: str, other: str) -> Spread | None:
        """One series divided by another, round by round; None where no round has both."""
        ours, theirs = self.seconds.get(name, {}), self.seconds.get(other, {})
        values = tuple(ours[number] / theirs[number] for number in ours if number in theirs)
        return Spread(values) if values else None

    def beyond(self, name: str, other: str, scale: float) -> Spread | None:
        """What one series takes longer than another, as for `ratios`, times `scale`."""
        ours, theirs = self.seconds.get(name, {}), self.seconds.get(other, {})
        values = tuple(scale * (ours[each] - theirs[each]) for each in ours if each in theirs)
        return Spread(values) if values else None

    def values(self, name: str, fact: str) -> dict[int, Any]:
        """A fact of a series by round, where it was stated."""
        found = self.facts.get(name, {})
        return {number: facts[fact] for number, facts in found.items() if fact in facts}
