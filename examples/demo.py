"""The whole workflow in minutes: draw blood cells, train, convert, evaluate, export, detect.

Training starts from the shipped weights, which know photographs of blood cells. `make demo` runs
it. Each step is the command a user would type, printed before it runs; all files go to runs/demo.
Exit code 1: a step failed, the AP is not that of a network that learned (0.50 to 0.98), or the
deploy form does not reach the train form's AP to four decimals.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.child_process import run_child

ROOT = Path(__file__).resolve().parents[1]
OUT = Path("runs/demo")  # relative to ROOT, where every step runs, so that the commands stay short
DATA_YAML = OUT / "data" / "data.yaml"
WEIGHTS = Path("models/weights/repyolov5n-bccd.pt")
RUN_FOLDERS = ("train", "val-train", "val-deploy", "val-onnx", "detect-images", "detect-clip")
MIN_AP, MAX_AP = 0.50, 0.98
SAME_AP = 0.5e-4
logger = logging.getLogger("demo")


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """Sizes of the data set and of the training; the defaults take three minutes on two cores.

    Attributes:
        images: labelled images.
        imgsz: side of the network input in pixels.
        epochs: passes over the training images.
    """

    images: int = 300
    imgsz: int = 160
    epochs: int = 16


@dataclass(frozen=True, slots=True)
class MeasuredForm:
    """One form of the network: its file and the AP that val.py measured."""

    name: str
    path: Path
    metrics: dict[str, Any]


class StepFailedError(Exception):
    """A command of the demo failed; the message has its exit code and text."""


def demo(config: DemoConfig) -> int:
    """Run every step; return the exit code.

    Raises:
        StepFailedError: a command ended with an error.
    """
    start = time.monotonic()
    clear_earlier_run()
    draw_data(config)
    trained = train(config)
    deploy = convert(config, trained)
    onnx = export(config, deploy)
    forms = [
        MeasuredForm(name, path, measure(config, name, path))
        for name, path in (("train", trained), ("deploy", deploy), ("onnx", onnx))
    ]
    found = [
        detect(config, onnx, "detect-images", OUT / "data" / "images" / "unseen"),
        detect(config, onnx, "detect-clip", OUT / "data" / "unseen.mp4"),
    ]
    show_summary(forms, found, time.monotonic() - start)
    return check(forms)


def clear_earlier_run() -> None:
    """Remove the folders an earlier demo made (the data set replaces its own files)."""
    for name in RUN_FOLDERS:
        shutil.rmtree(ROOT / OUT / name, ignore_errors=True)


def draw_data(config: DemoConfig) -> None:
    """Draw labelled images, and unlabelled images and a clip to detect in."""
    run_module("data.synthetic", OUT / "data", "--kind", "cells", "--images", config.images)


def train(config: DemoConfig) -> Path:
    """Go on training the shipped network, with RepVGG blocks; returns the best checkpoint."""
    arguments = ("--cfg", "repyolov5n.yaml", "--weights", WEIGHTS, "--data", DATA_YAML)
    size = ("--imgsz", config.imgsz, "--epochs", config.epochs, "--batch-size", 16)
    settings = ("--hyp", "examples/hyp.demo.yaml", "--optimizer", "AdamW")
    report = run_script("train", "train", *arguments, *size, *settings, "--workers", 2)
    return Path(report["weights"]["best"])


def convert(config: DemoConfig, trained: Path) -> Path:
    """Merge the branches into plain convolutions; reports AP before and after."""
    arguments = ("--weights", trained, "--data", DATA_YAML, "--imgsz", config.imgsz, "--workers", 2)
    report = run_step("convert", "convert.py", *arguments, "--report", OUT / "convert.json")
    for precision, error in report["max_rel_error"].items():
        logger.info("largest relative error of the raw output in %s: %.1e", precision, error)
    return Path(report["output"])


def export(config: DemoConfig, deploy: Path) -> Path:
    """Write an ONNX file, which runs without torch."""
    arguments = ("--weights", deploy, "--imgsz", config.imgsz)
    report = run_step("export", "export.py", *arguments, "--report", OUT / "export.json")
    return Path(report["files"][0]["path"])


def measure(config: DemoConfig, form: str, weights: Path) -> dict[str, Any]:
    """AP on the validation images, square inputs for all forms: an ONNX file has one size."""
    arguments = ("--weights", weights, "--data", DATA_YAML, "--imgsz", config.imgsz, "--no-rect")
    return run_script("val", f"val-{form}", *arguments, "--workers", 2)


def detect(config: DemoConfig, weights: Path, name: str, source: Path) -> dict[str, Any]:
    """Detect objects in images or a clip that are not in the training set."""
    arguments = ("--weights", weights, "--source", source, "--imgsz", config.imgsz)
    return run_script("detect", name, *arguments)


def run_script(script: str, name: str, *arguments: object) -> dict[str, Any]:
    """Run a script that has a run folder; return its report."""
    folder = ("--project", OUT, "--name", name, "--exist-ok")
    return run_step(name, f"{script}.py", *arguments, *folder, "--report", OUT / f"{name}.json")


def run_module(module: str, *arguments: object) -> None:
    """Run `python -m MODULE ARGUMENTS` in ROOT."""
    run_command(("-m", module, *arguments))


def run_step(name: str, *arguments: object) -> dict[str, Any]:
    """Run a command that writes runs/demo/NAME.json; return what that holds."""
    report_path = ROOT / OUT / f"{name}.json"
    report_path.unlink(missing_ok=True)
    run_command(arguments)
    report: dict[str, Any] = json.loads(report_path.read_text(encoding="utf-8"))
    return report


def run_command(arguments: Sequence[object]) -> None:
    """Print a python command and run it.

    Raises:
        StepFailedError: its exit code is not 0.
    """
    command = [str(argument) for argument in arguments]
    shown = shlex.join(["python", *command])
    logger.info("\n$ %s", shown)
    start = time.monotonic()
    code = run_child(
        [sys.executable, *command], cwd=ROOT, env=environment(), check=False
    ).returncode
    if code != 0:
        raise StepFailedError(f"exit code {code} from: {shown}")
    logger.info("(%.0f s)", time.monotonic() - start)


def environment() -> dict[str, str]:
    """This process's environment, with threads for half of the cores unless the user chose.

    Threads that wait for each other come almost to a stop when anything else, the loading of
    images for example, takes one of their cores: on two busy cores, two are slower than one.
    """
    threads = str(max((os.cpu_count() or 1) // 2, 1))
    return {"OMP_NUM_THREADS": threads, **os.environ}


def show_summary(
    forms: Sequence[MeasuredForm], found: Sequence[dict[str, Any]], seconds: float
) -> None:
    """Log AP and file size of each form, detections per second, and the result folders."""
    logger.info("\n%-8s %9s %8s %10s  file", "form", "mAP50-95", "mAP50", "size")
    for form in forms:
        megabytes = (ROOT / form.path).stat().st_size / 1e6
        ap, ap50 = form.metrics["AP"], form.metrics["AP50"]
        logger.info("%-8s %9.4f %8.4f %7.2f MB  %s", form.name, ap, ap50, megabytes, form.path)
    for what, result in zip(("images", "frames of the clip"), found, strict=True):
        logger.info(
            "%d %s: %d objects found, %.0f per second",
            result["frames"],
            what,
            result["detections"],
            result["frames_per_second"],
        )
    logger.info("detections drawn:   %s and %s", OUT / "detect-images", OUT / "detect-clip")
    logger.info("training curves:    %s", OUT / "train" / "results.png")
    logger.info("took %.0f s", seconds)


def check(forms: Sequence[MeasuredForm]) -> int:
    """0 if the network learned and the deploy form is as good as the train form, else 1."""
    trained, deploy = (form.metrics["AP"] for form in forms[:2])
    if not MIN_AP < trained < MAX_AP:
        logger.error("failed: mAP50-95 %.4f is not between %s and %s", trained, MIN_AP, MAX_AP)
        return 1
    if abs(trained - deploy) >= SAME_AP:
        logger.error("failed: mAP50-95 %.5f in train form, %.5f in deploy form", trained, deploy)
        return 1
    logger.info("passed: mAP50-95 of the deploy form equals the train form's to four decimals")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run on the given arguments, or the process's. Exit code 1: a step or the check failed."""
    defaults = DemoConfig()
    parser = argparse.ArgumentParser(
        description="Draw a data set, train, convert, evaluate, export, detect.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--images", type=int, default=defaults.images, help="labelled images")
    parser.add_argument("--imgsz", type=int, default=defaults.imgsz, help="network input in pixels")
    parser.add_argument("--epochs", type=int, default=defaults.epochs, help="passes over the data")
    flags = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        return demo(DemoConfig(flags.images, flags.imgsz, flags.epochs))
    except StepFailedError as error:
        logger.error("failed: %s", error)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
