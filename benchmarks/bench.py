"""Every stage, ours against the peer, and one report: `python -m benchmarks.bench`, `make bench`.

Each stage is a command of its own (`python -m benchmarks.loader`); flags that are not listed go to
all of them. A run that was cut goes on where it was, on the same day and commit. Run nothing else
at the same time.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import (
    coco_eval,
    cold_start,
    detect_video,
    image_index,
    inference,
    loader,
    loss,
    nms,
    training_step,
    val,
)
from benchmarks.bench_report import report_text
from benchmarks.measured_file import read_measured
from benchmarks.rounds import Found
from benchmarks.stage import Stage, add_common_flags
from experiments.training_runs import REPORTS, ROOT
from utils.child_process import run_child
from utils.errors import ConfigError, UserError, suggest
from utils.logs import configure_logging
from utils.output_files import write_json, write_text

logger = logging.getLogger(__name__)
STAGES = (
    loader.STAGE,
    training_step.STAGE,
    loss.STAGE,
    val.STAGE,
    inference.STAGE,
    nms.STAGE,
    coco_eval.STAGE,
    image_index.STAGE,
    cold_start.STAGE,
    detect_video.STAGE,
)


def chosen(names: Sequence[str]) -> tuple[Stage, ...]:
    """The stages of these names, all of them for none.

    Raises:
        ConfigError: an unknown name.
    """
    known = {stage.name: stage for stage in STAGES}
    for name in names:
        if name not in known:
            raise ConfigError(f"--stages {name}: no such stage{suggest(name, known)}")
    return tuple(stage for stage in STAGES if not names or stage.name in names)


def measure(stages: Sequence[Stage], arguments: Sequence[str]) -> list[str]:
    """Run the stages one after the other; returns the names of those that failed."""
    failed = []
    for stage in stages:
        start = time.monotonic()
        command = [sys.executable, "-m", f"benchmarks.{stage.name}", *arguments]
        code = run_child(command, cwd=ROOT, check=False).returncode
        logger.info("%s: %.0f s", stage.name, time.monotonic() - start)
        if code == 2:
            raise ConfigError(f"{stage.name}: see the message above")
        if code:
            logger.error("%s failed: it is not in the report", stage.name)
            failed.append(stage.name)
    return failed


def report_name(stages: Sequence[Stage]) -> str:
    """`bench`, with the names of the stages unless they are all."""
    return "_".join(("bench", *(stage.name for stage in stages if len(stages) < len(STAGES))))


def write_report(stages: Sequence[Stage], runs: Path, out: Path) -> tuple[Path, bool]:
    """Write the table and the raw rounds of these stages.

    Returns:
        The table's path, and whether all that must agree does.

    Raises:
        ConfigError: a stage is not measured.
    """
    found = {stage: Found.read(stage.file(runs)) for stage in stages}
    path = out / f"{report_name(stages)}_cpu_{datetime.date.today().isoformat()}.md"
    write_text(path, report_text(found))
    raw = {}
    for stage in stages:
        setting, entries = read_measured(stage.file(runs))
        raw[stage.name] = {"setting": setting, "entries": entries}
    write_json(path.with_suffix(".json"), raw)
    agree = all(
        agreement.differing(each) is None
        for stage, each in found.items()
        for agreement in stage.agreements
    )
    return path, agree


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all stages and write the report.

    Returns:
        The exit code: 1 where a stage failed or results that must agree differ.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_common_flags(parser)
    parser.add_argument("--stages", nargs="+", default=[], help="only these")
    parser.add_argument("--out", type=Path, default=REPORTS, help="folder of the report")
    parser.add_argument("--report-only", action="store_true", help="of what is measured already")
    given, others = parser.parse_known_args(argv)
    configure_logging()
    runs = given.runs.resolve()
    paths = ["--shared", given.shared.resolve(), "--peer", given.peer.absolute(), "--runs", runs]
    others += ["--fresh"] if given.fresh else []
    try:
        stages, failed = chosen(given.stages), list[str]()
        if not given.report_only:
            failed = measure(stages, [*map(str, paths), *others])
        measured = [stage for stage in stages if stage.name not in failed]
        if not measured:
            return 1
        path, agree = write_report(measured, runs, given.out)
    except UserError as error:
        logger.error("error: %s", error)
        return 2
    logger.info("%s", path)
    return int(bool(failed) or not agree)


if __name__ == "__main__":
    raise SystemExit(main())
