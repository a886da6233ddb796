"""Seconds from the start of detect.py to the first box: `python -m benchmarks.cold_start`.

One image, with an ONNX file and with a checkpoint in turn: from starting the process until the line
with its boxes is read. The floor is a process that runs the same ONNX file on the same image with
nothing of this project (benchmarks/bare_onnx.py), in the same rounds. One run of each before is not
counted: files are in the system's memory, and Python's modules are compiled.
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.measurement import RunFailedError, Spread, measured_with, script, seconds_of
from experiments.training_runs import REPORTS, ROOT
from utils.logs import SAMPLE_IMAGES, SHIPPED_WEIGHTS, configure_logging

logger = logging.getLogger(__name__)
FLOOR = "bare process"


def first_line(command: Sequence[str]) -> tuple[str, float]:
    """What a process of its own prints first, and the seconds from its start until it is read."""
    # As on a user's machine: what is imported is compiled once, and kept.
    variables = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    start = time.perf_counter()
    with subprocess.Popen(
        command, cwd=ROOT, text=True, env=variables, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        line = process.stdout.readline() if process.stdout is not None else ""
        seconds = time.perf_counter() - start
        process.communicate()
    return line, seconds


def seconds_to_first_box(weights: Path, image: Path, folder: Path) -> float:
    """Of detect.py.

    Raises:
        RunFailedError: it finds nothing, or fails.
    """
    flags = ["--nosave", "--save-jsonl", "-", "--project", folder, "--device", "cpu"]
    command = script("detect.py", "--weights", weights, "--source", image, *flags)
    line, seconds = first_line(command)
    if not line or not json.loads(line)["detections"]:
        raise RunFailedError(f"detect.py found nothing in {image} with {weights}")
    return seconds


def seconds_of_floor(weights: Path, image: Path) -> float:
    """Of the bare process.

    Raises:
        RunFailedError: it fails.
    """
    line, seconds = first_line(script("benchmarks/bare_onnx.py", weights, image))
    if not line:
        raise RunFailedError(f"benchmarks/bare_onnx.py failed with {weights} and {image}")
    return seconds


def report(found: dict[str, list[float]], image: Path, date: str) -> str:
    """The whole report in Markdown; the ratios are those of each round."""
    floor = found[FLOOR]
    rows = []
    for name, seconds in found.items():
        ratios = [one / least for one, least in zip(seconds, floor, strict=True)]
        rows.append(
            f"| {name} | {Spread(tuple(seconds)).as_text()} | {Spread(tuple(ratios)).as_text()} |"
        )
    lines = [
        f"# From the start of detect.py to the first box, {date}", "",
        f"One image ({image.name}), seconds from starting the process. The bare process imports",
        "numpy, cv2 and onnxruntime, opens the ONNX file, decodes and letterboxes the image and",
        "runs the network once; it decodes no boxes.", "",
        measured_with("benchmarks.cold_start", len(floor)), "",
        "| weights | seconds | times the bare process |", "|---|---|---|", *rows,
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
        runs: dict[str, Callable[[], float]] = {
            FLOOR: partial(seconds_of_floor, exported, image),
            exported.name: partial(seconds_to_first_box, exported, image, folder),
            checkpoint.name: partial(seconds_to_first_box, checkpoint, image, folder),
        }
        found: dict[str, list[float]] = {name: [] for name in runs}
        try:
            seconds_of(script("export.py", "--weights", checkpoint, "--output", exported))
            for number in range(given.rounds + 1):
                for name, run in runs.items():
                    seconds = run()
                    if number:
                        found[name].append(seconds)
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
