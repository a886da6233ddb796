"""Seconds from the start of detect.py to the first box: `python -m benchmarks.cold_start`.

One image, with an ONNX file and with a checkpoint in turn: from starting the process until the line
with its boxes is read. One run of each before is not counted: files are in the system's memory.
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measurement import RunFailedError, Spread, measured_with, script, seconds_of
from experiments.training_runs import REPORTS, ROOT
from utils.logs import SAMPLE_IMAGES, SHIPPED_WEIGHTS, configure_logging

logger = logging.getLogger(__name__)


def seconds_to_first_box(weights: Path, image: Path, folder: Path) -> float:
    """Of a process of its own.

    Raises:
        RunFailedError: it finds nothing, or fails.
    """
    flags = ["--nosave", "--save-jsonl", "-", "--project", folder, "--device", "cpu"]
    command = script("detect.py", "--weights", weights, "--source", image, *flags)
    start = time.perf_counter()
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        line = process.stdout.readline() if process.stdout is not None else ""
        seconds = time.perf_counter() - start
        process.communicate()
    if not line or not json.loads(line)["detections"]:
        raise RunFailedError(f"detect.py found nothing in {image} with {weights}")
    return seconds


def report(found: dict[str, list[float]], image: Path, date: str) -> str:
    """The whole report in Markdown."""
    rounds = len(next(iter(found.values())))
    rows = [f"| {name} | {Spread(tuple(seconds)).as_text()} |" for name, seconds in found.items()]
    lines = [
        f"# From the start of detect.py to the first box, {date}", "",
        f"One image ({image.name}), seconds from starting the process.", "",
        measured_with("benchmarks.cold_start", rounds), "",
        "| weights | seconds |", "|---|---|", *rows,
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the report; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--checkpoint", type=Path, default=SHIPPED_WEIGHTS / "repyolov5n-npu-deeppcb.pt"
    )
    parser.add_argument(
        "--image", type=Path, default=min(SAMPLE_IMAGES.glob("deeppcb_*.jpg")), help="with objects"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=REPORTS)
    given = parser.parse_args(argv)
    configure_logging()
    checkpoint, image = given.checkpoint.resolve(), given.image.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        exported = folder / f"{checkpoint.stem}.onnx"
        found: dict[str, list[float]] = {exported.name: [], checkpoint.name: []}
        try:
            seconds_of(script("export.py", "--weights", checkpoint, "--output", exported))
            for number in range(given.rounds + 1):
                for weights in (exported, checkpoint):
                    seconds = seconds_to_first_box(weights, image, folder)
                    if number:
                        found[weights.name].append(seconds)
        except RunFailedError as error:
            logger.error("%s", error)
            return 1
    date = datetime.date.today().isoformat()
    path = given.out / f"cold_start_cpu_{date}.md"
    path.write_text(report(found, image, date), encoding="utf-8")
    logger.info("%s", path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
