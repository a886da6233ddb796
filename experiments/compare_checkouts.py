"""Show that two checkouts behave the same: `python -m experiments.compare_checkouts BEFORE AFTER`.

Both run the same commands (each its own five scripts, side by side, one thread each) on a data set
drawn once; trained weights must agree bit for bit, exported files byte for byte apart from their
metadata, reports in their keys and numbers. Steps after training use the network that BEFORE
trained. Exit code 0: nothing differs; 1: something does; 2: there was nothing to compare.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from experiments.checkout import Checkout, Finished, RunFailedError
from experiments.comparison_data import coco128_yaml, draw_data, write_hyperparameters
from experiments.comparison_steps import (
    GROUPS,
    LEARNED,
    SCRIPTS,
    Command,
    Step,
    export_step,
    flags_in,
    inference_steps,
    learning_command,
    presets_in,
    real_steps,
    training_steps,
)
from experiments.content_difference import parts_difference, path_difference, tree_difference
from utils.output_files import write_json

logger = logging.getLogger(__name__)
Outcome = Literal["equal", "different", "not compared"]
OUTCOMES = ("equal", "different", "not compared")


@dataclass(frozen=True, slots=True)
class Result:
    """What a step showed.

    Attributes:
        step: its name.
        outcome: whether the checkouts behave the same.
        reason: the first difference, or why nothing was compared; empty if equal.
        seconds: how long both took together.
    """

    step: str
    outcome: Outcome
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Side:
    """A checkout, and the folder of what its scripts write."""

    checkout: Checkout
    out: Path

    def run(self, step: Step, shared: Mapping[str, Path]) -> Finished:
        """Run the commands of a step until one ends with more than 1; returns the last end."""
        done = Finished(0, "")
        for command in step.commands:
            done = self.checkout.run(*self.filled(command, shared))
            if done.code not in (0, 1):
                break
        return done

    def filled(self, command: Command, shared: Mapping[str, Path]) -> list[str]:
        """The command with paths for its {names}."""
        return [word.format(out=self.out, **shared) for word in command]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two checkouts and the files that both are given.

    Attributes:
        before: draws the data and trains the shared network.
        after: should behave as `before`.
        folder: for everything that is written.
    """

    before: Side
    after: Side
    folder: Path

    @classmethod
    def of(cls, before: Path, after: Path, folder: Path) -> Comparison:
        """Of two roots."""
        sides = [
            Side(Checkout(root.resolve()), folder / name)
            for root, name in ((before, "before"), (after, "after"))
        ]
        return cls(sides[0], sides[1], folder)

    @property
    def shared(self) -> dict[str, Path]:
        """Paths that steps name."""
        data = self.folder / "data"
        return {
            "data": data / "training_images.yaml",
            "images": data / "images" / "unseen",
            "network": self.before.out / LEARNED,
            "learning": self.folder / "learning.yaml",
            "strong": self.folder / "strong.yaml",
        }

    def prepare(self) -> None:
        """Draw the data set and write the hyper-parameters.

        Raises:
            RunFailedError: data.synthetic failed.
        """
        draw_data(self.before.checkout, self.folder / "data")
        write_hyperparameters(self.shared["learning"], self.shared["strong"])

    def train_network(self) -> None:
        """Train the shared network, unless a training step has.

        Raises:
            RunFailedError: train.py failed.
        """
        if not self.shared["network"].exists():
            command = self.before.filled(learning_command(), self.shared)
            self.before.checkout.require(*command)

    def presets(self) -> list[str]:
        """The presets of export.py, those of one checkout only included.

        Raises:
            RunFailedError: export.py lists no presets.
        """
        found: list[str] = []
        for side in (self.before, self.after):
            names = presets_in(side.checkout.run("export.py", "--help").output)
            names = names or presets_in(side.checkout.run("export.py", "--preset", "?").output)
            if not names:
                raise RunFailedError(f"{side.checkout.root}: export.py lists no presets")
            found += [name for name in names if name not in found]
        return found

    def flags(self, script: str) -> Result:
        """Compare the flags and default values of a script."""
        sides = (self.before, self.after)
        texts = [side.checkout.run(f"{script}.py", "--help").output for side in sides]
        return result(f"flags-{script}", parts_difference(*map(flags_in, texts)))

    def step(self, step: Step) -> Result:
        """Run a step in both checkouts at once and compare what it left."""
        start = time.monotonic()
        with ThreadPoolExecutor(2) as threads:
            ends = threads.map(lambda side: side.run(step, self.shared), (self.before, self.after))
            before, after = ends
        seconds = time.monotonic() - start
        ended = f"exit code {before.code} ({before.last_line})"
        if before.code != after.code:
            ended += f", then {after.code} ({after.last_line})"
            return Result(step.name, "different", ended, seconds)
        if before.code == 2:
            return Result(step.name, "not compared", before.last_line, seconds)
        difference = self._difference(step)
        if difference and before.code != 0:
            difference += f"; {ended}"
        return result(step.name, difference, seconds)

    def _difference(self, step: Step) -> str | None:
        """The first difference of reports, then of files, then of folders."""
        for name in step.reports:
            before, after = (side.out / name for side in (self.before, self.after))
            if not (before.exists() and after.exists()):
                return path_difference(before, after)
            contents = (json.loads(path.read_text(encoding="utf-8")) for path in (before, after))
            if difference := tree_difference(*contents):
                return f"{name}: {difference}"
        pairs = ((self.before.out / name, self.after.out / name) for name in step.paths)
        return next(filter(None, (path_difference(*pair) for pair in pairs)), None)


def result(name: str, difference: str | None, seconds: float = 0.0) -> Result:
    """Equal without a difference."""
    return Result(name, "different" if difference else "equal", difference or "", seconds)


def compare(comparison: Comparison, groups: Sequence[str], shared: Path | None) -> list[Result]:
    """Run the steps of these groups; each result is logged as it comes.

    Raises:
        RunFailedError: there is no data set, no network, or no list of presets.
    """
    results = []
    for outcome in outcomes(comparison, groups, shared):
        log_result(outcome)
        results.append(outcome)
    return results


def outcomes(
    comparison: Comparison, groups: Sequence[str], shared: Path | None
) -> Iterator[Result]:
    """Every result, in the order of GROUPS."""
    comparison.prepare()
    if "flags" in groups:
        yield from map(comparison.flags, SCRIPTS)
    if "train" in groups:
        yield from map(comparison.step, training_steps())
    comparison.train_network()
    steps = inference_steps()
    if not {"export", "int8"}.isdisjoint(groups):
        steps += map(export_step, comparison.presets())
    if shared is not None:
        coco128 = coco128_yaml(
            comparison.before.checkout, shared, comparison.folder / "coco128.yaml"
        )
        steps += real_steps((shared / "weights" / "yolov5n.pt").resolve(), coco128)
    elif "real" in groups:
        yield Result("real", "not compared", "no --shared folder")
    yield from (comparison.step(step) for step in steps if step.group in groups)


def log_result(outcome: Result) -> None:
    """A row of the table."""
    name, shown = outcome.step, outcome.outcome
    logger.info("%-22s %-13s %5.0f s  %s", name, shown, outcome.seconds, outcome.reason)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags of this script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("before", type=Path, help="root of the checkout to compare with")
    parser.add_argument("after", type=Path, help="root of the checkout that should be the same")
    parser.add_argument(
        "--shared", type=Path, help="folder with weights/yolov5n.pt and data/coco128"
    )
    parser.add_argument("--work", type=Path, help="empty folder to write to, and to keep")
    parser.add_argument("--report", type=Path, help="write the results to this JSON file")
    usual = ",".join(group for group in GROUPS if group != "int8")
    arguments = f"groups of steps, with commas: any of {','.join(GROUPS)} (default: all but int8)"
    parser.add_argument("--only", default=usual, help=arguments)
    given = parser.parse_args(argv)
    given.only = given.only.split(",")
    if unknown := set(given.only) - set(GROUPS):
        parser.error(f"--only: {', '.join(sorted(unknown))}: choose from {', '.join(GROUPS)}")
    if given.work is not None and given.work.exists() and any(given.work.iterdir()):
        parser.error(f"--work {given.work}: is not empty; give a new folder")
    return given


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, write the report, and return the exit code."""
    given = parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(given.work or temporary).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        comparison = Comparison.of(given.before, given.after, folder)
        try:
            results = compare(comparison, given.only, given.shared)
        except RunFailedError as error:
            logger.error("%s", error)
            return 2
    counts = Counter[str](outcome.outcome for outcome in results)
    logger.info(", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES))
    if given.report is not None:
        steps = [asdict(outcome) for outcome in results]
        content = {"before": str(given.before), "after": str(given.after), "steps": steps}
        write_json(given.report, content)
    if not counts["equal"] + counts["different"]:
        return 2
    return int(counts["different"] > 0)


if __name__ == "__main__":
    raise SystemExit(main())
