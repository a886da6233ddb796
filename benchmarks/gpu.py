"""Training and inference on one GPU, in one run: `python -m benchmarks.gpu --minutes 8`.

Measures, section by section, what docs/benchmarks/README.md lists, and writes JSON and a dated
markdown report after every section, so that a run that is cut off keeps what it has. Where time is
short, rounds are dropped first, then the last sections. `--rehearse` runs everything with small
sizes on a CPU, which shows that it works and says nothing about speed.
"""

from __future__ import annotations

import argparse
import logging
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_inference import density, inference
from benchmarks.gpu_loading import loading
from benchmarks.gpu_report import report_text
from benchmarks.gpu_setting import GpuSetting, describe_machine, full_setting, rehearsal
from benchmarks.gpu_training import compiled, families, memory, parts, variants
from benchmarks.measurement import warnings_only
from benchmarks.time_budget import RoundLimit, TimeBudget
from experiments.training_runs import REPORTS, ROOT, current_commit
from utils.errors import ConfigError, UserError
from utils.logs import configure_logging
from utils.output_files import write_json, write_text

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the run.

    Attributes:
        weight: its part of the time.
        measure: yields what it has, the last time all of it.
    """

    weight: float
    measure: Callable[[GpuSetting, RoundLimit], Iterator[dict[str, Any]]]


SECTIONS = {
    "families": Section(25, families),
    "memory": Section(8, memory),
    "inference": Section(15, inference),
    "parts": Section(5, parts),
    "variants": Section(8, variants),
    "density": Section(5, density),
    "loading": Section(12, loading),
    "compiled": Section(22, compiled),
}


class Run:
    """What was measured so far, and the files that hold it.

    Attributes:
        path: of the JSON; the report lies beside it.
    """

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        self.path = path
        self._started = time.monotonic()
        self._found: dict[str, Any] = {**head, "sections": {}}

    def note(self, section: str, content: dict[str, Any]) -> None:
        """Keep what a section has, and write both files."""
        self._found["sections"][section] = content
        self._found["seconds"] = time.monotonic() - self._started
        write_json(self.path, self._found)
        write_text(self.path.with_suffix(".md"), report_text(self._found))

    def note_failure(self, section: str, reason: str) -> None:
        """Keep what a section has, and why it has no more."""
        content = self._found["sections"].get(section)
        self.note(section, {"reason": reason} if content is None else {**content, "end": reason})


def measure(run: Run, bench: GpuSetting, budget: TimeBudget) -> None:
    """Every section of the budget in turn; one that fails says why, and the next one begins."""
    for name in budget.weights:
        if budget.left <= 0:
            run.note(name, {"reason": "no time was left"})
            continue
        start = time.monotonic()
        try:
            for content in SECTIONS[name].measure(bench, budget.limit_of(name)):
                run.note(name, content)
        except Exception as error:  # the other sections are worth having
            logger.warning("%s", name, exc_info=True)
            text = " ".join(str(error).split())[:200]
            run.note_failure(name, f"{type(error).__name__}: {text}")
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()
        logger.info("%s: %.0f s, %.0f s left", name, time.monotonic() - start, budget.left)


def head_of(bench: GpuSetting, arguments: argparse.Namespace) -> dict[str, Any]:
    """What a report says before its figures."""
    import torchvision  # takes two seconds, and `--help` needs none of it

    steps, is_gpu = bench.steps, bench.device.type == "cuda"
    return {
        "card": torch.cuda.get_device_name(bench.device) if is_gpu else "a CPU",
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{describe_machine(bench.device)}. Python {platform.python_version()}, torch "
        f"{torch.__version__}, torchvision {torchvision.__version__}.",
        "commit": arguments.commit or current_commit(),
        "command": f"python -m benchmarks.gpu --minutes {arguments.minutes:g}",
        "rehearsal": arguments.rehearse,
        "setting": {"cfg": steps.cfg, "image_size": steps.image_size, "amp": steps.amp,
                    "batch_size": steps.batch_size, "batches": bench.batches},
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="all sections together")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--device", default="", help="a GPU number; with --rehearse the CPU")
    parser.add_argument("--rehearse", action="store_true", help="small sizes, on the CPU")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared",
                        help="folder with data/coco128; without it images are drawn")  # fmt: skip
    parser.add_argument("--peer-python", default="", help="Python that has the package yolov5")
    parser.add_argument("--commit", default="", help="where there is no git")
    parser.add_argument("--out", type=Path, help="folder of the report")
    arguments = parser.parse_args(argv)
    configure_logging()
    out = arguments.out or (ROOT / "runs" / "gpu" if arguments.rehearse else REPORTS)
    budget = TimeBudget.of_minutes(
        arguments.minutes,
        {name: each.weight for name, each in SECTIONS.items() if name in arguments.only},
    )
    try:
        # The loop says every epoch, and data sets say what they hold.
        with warnings_only("utils", "data", "experiments"):
            return _run(arguments, out, budget)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


def _run(arguments: argparse.Namespace, out: Path, budget: TimeBudget) -> int:
    if arguments.minutes <= 0:
        raise ConfigError(f"--minutes {arguments.minutes:g}: must be more than 0")
    device = "cpu" if arguments.rehearse and not arguments.device else arguments.device
    with tempfile.TemporaryDirectory() as folder:
        bench = full_setting(device, arguments.shared.resolve(), Path(folder),
                             arguments.peer_python)  # fmt: skip
        bench = rehearsal(bench) if arguments.rehearse else bench
        if bench.device.type != "cuda" and not arguments.rehearse:
            raise ConfigError("there is no CUDA GPU here; --rehearse runs everything on the CPU")
        stem = "gpu_rehearsal" if arguments.rehearse else "gpu"
        run = Run(out / f"{stem}_{time.strftime('%Y-%m-%d')}.json", head_of(bench, arguments))
        measure(run, bench, budget)
    sys.stdout.write(f"{run.path.with_suffix('.md')}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
