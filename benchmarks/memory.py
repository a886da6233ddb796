"""Memory of training beside the peer's, and of conversion: `python -m benchmarks.memory`.

Training: the whole process's peak over a few steps of the loop, ours and that of the package
yolov5, each in a process of its own, in turn. Conversion: `convert.py` of a plain yolov5x with
random weights, its time and its peak beyond that of a process that only imports what it imports;
and once more under Python's profiler, for the parts of its time.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.conversion_parts import conversion_parts
from benchmarks.measurement import PeerFailedError, Spread, measured_with, script, table
from benchmarks.peer_loop import PeerLoop, peer_python
from benchmarks.process_memory import ProcessCost, cost_of
from benchmarks.timed_training import TimedTraining, host_batch
from data.dataset_spec import load_dataset_spec
from experiments.block_costs import PLAIN, Setting
from experiments.training_runs import REPORTS, ROOT
from models.network.detector import build_model
from models.network.model_spec import ModelSpec
from utils.checkpoint import Checkpoint, save_checkpoint
from utils.child_process import run_child
from utils.device import peak_memory_mb
from utils.engine.training_state import StateConfig
from utils.logs import configure_logging
from utils.output_files import write_text

logger = logging.getLogger(__name__)
TRAINED = ("yolov5s.yaml", 320, 16)  # yaml, image size, images of a batch
STEPS = 3
ROUNDS = 3
OURS, PEER = "this project", "ultralytics/yolov5"
CONVERTED = "yolov5x.yaml"
MAX_SECONDS, MAX_FACTOR = 3.0, 2.0  # of the conversion: goals
PARTS_NOTE = (
    "The parts of its time after the imports, each with all that it calls, in one run under "
    "Python's profiler:"
)


def training_peaks(setting: Setting, python: str) -> dict[str, Any]:
    """MB of each round, ours and the peer's, or why there is no peer."""
    found: dict[str, Any] = {OURS: []}
    for _ in range(setting.rounds):
        found[OURS].append(_own_peak(setting))
        if "reason" in found:
            continue
        try:
            with PeerLoop(peer_python(python), setting) as peer:
                peer.step(STEPS)
                found.setdefault(PEER, []).append(peer.peak_mb())
                found["version"] = peer.version
        except PeerFailedError as error:
            found["reason"] = str(error)
    return found


def _own_peak(setting: Setting) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", "--peak-of", setting.cfg,
               str(setting.image_size), str(setting.batch_size)]  # fmt: skip
    done = run_child(command, cwd=ROOT, capture=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def print_peak(setting: Setting) -> None:
    """In the process of `_own_peak`: take the steps and print the peak in MB.

    In float32 and as the package lays its tensors out, so that both do the same work.
    """
    TimedTraining(PLAIN, setting, StateConfig(), [host_batch(setting)] * STEPS)()
    sys.stdout.write(f"{json.dumps(peak_memory_mb(setting.device))}\n")


def write_random_checkpoint(path: Path, cfg: str) -> None:
    """A network with random weights in train form."""
    torch.manual_seed(0)
    model = build_model(ModelSpec.from_file(cfg))
    names = load_dataset_spec("coco128.yaml").class_names
    weights = model.state_dict()
    save_checkpoint(path, Checkpoint("train", model.spec.to_yaml(), names, weights, 640))


def conversion(cfg: str, rounds: int) -> dict[str, Any]:
    """MB of the checkpoint, costs of importing and converting in each round, seconds of parts."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / f"{Path(cfg).stem}.pt"
        write_random_checkpoint(weights, cfg)
        costs: dict[str, list[ProcessCost]] = {"import": [], "convert": []}
        commands = {
            "import": [sys.executable, "-c", "import convert"],
            "convert": script("convert.py", "--weights", weights),
        }
        for number in range(rounds + 1):  # the first one fills the system's cache of files
            for name, command in commands.items():
                cost = cost_of(command)
                logger.info("%s: %.2f s, %.0f MB", name, cost.seconds, cost.peak_mb)
                if number:
                    costs[name].append(cost)
        parts = conversion_parts(weights)
        return {"mb": weights.stat().st_size / 1e6, **costs, "parts": parts}


def report(training: dict[str, Any], converted: dict[str, Any], date: str) -> str:
    """The whole report in Markdown."""
    lines = [
        f"# Memory of training and of conversion, {date}", "",
        measured_with("benchmarks.memory", len(training[OURS])), "",
        f"## Training: {Path(TRAINED[0]).stem}, {TRAINED[1]} px, batch {TRAINED[2]}, float32", "",
        f"The whole process's peak over {STEPS} steps, Python and torch included, made-up images.",
        "",
        *table(("loop", "peak, MB", f"/ {OURS}"), _training_rows(training)), "",
    ]  # fmt: skip
    if "reason" in training:
        lines += [f"{PEER} was not measured: {training['reason']}.", ""]
    else:
        lines += [f"{PEER}: the package yolov5 {training['version']}.", ""]
    lines += [f"## Conversion of {Path(CONVERTED).stem}, {converted['mb']:.0f} MB", ""]
    lines += table(("", "measured", "goal"), _conversion_rows(converted))
    lines += ["", PARTS_NOTE, ""]
    parts = converted["parts"].items()
    lines += table(("part", "seconds"), [(name, f"{seconds:.2f}") for name, seconds in parts])
    return "\n".join(lines) + "\n"


def _training_rows(training: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    for name in (OURS, PEER):
        if name in training:
            pairs = zip(training[name], training[OURS], strict=False)
            ratio = Spread(tuple(value / ours for value, ours in pairs)).as_text(2)
            rows.append((name, Spread(tuple(training[name])).as_text(0), ratio))
    return rows


def _conversion_rows(converted: dict[str, Any]) -> list[tuple[str, str, str]]:
    pairs = list(zip(converted["convert"], converted["import"], strict=True))
    seconds = Spread(tuple(whole.seconds for whole, _ in pairs))
    imports = Spread(tuple(base.seconds for _, base in pairs))
    peak = Spread(tuple(whole.peak_mb for whole, _ in pairs))
    factor = Spread(tuple((whole.peak_mb - base.peak_mb) / converted["mb"]
                          for whole, base in pairs))  # fmt: skip
    return [
        ("seconds", seconds.as_text(2), f"under {MAX_SECONDS:g}"),
        ("of them to import, seconds", imports.as_text(2), ""),
        ("peak, MB", peak.as_text(0), ""),
        ("peak beyond imports / checkpoint", factor.as_text(2), f"at most {MAX_FACTOR:g}"),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the report; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--peer-python", default="", help="Python that has the package yolov5")
    parser.add_argument("--out", type=Path, default=REPORTS)
    parser.add_argument("--peak-of", nargs=3, metavar=("CFG", "IMGSZ", "BATCH"),
                        help=argparse.SUPPRESS)  # fmt: skip
    arguments = parser.parse_args(argv)
    if arguments.peak_of:
        cfg, size, batch_size = arguments.peak_of
        print_peak(Setting(cfg, int(size), int(batch_size), rounds=1))
        return 0
    configure_logging()
    date = time.strftime("%Y-%m-%d")
    setting = Setting(*TRAINED, rounds=arguments.rounds)
    training = training_peaks(setting, arguments.peer_python)
    logger.info("training: %s", training)
    text = report(training, conversion(CONVERTED, arguments.rounds), date)
    path = arguments.out / f"memory_cpu_{date}.md"
    write_text(path, text)
    sys.stdout.write(f"{text}\n{path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
