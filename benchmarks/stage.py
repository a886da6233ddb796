"""A stage of the benchmark: what competes, what must agree, and its command line."""

from __future__ import annotations

import argparse
import datetime
import logging
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measured_file import MeasuredFile
from benchmarks.measurement import (
    PeerFailedError,
    RunFailedError,
    load_average,
)
from benchmarks.peer import Peer
from benchmarks.rounds import Contestant, Found, run_rounds
from benchmarks.rows import Agreement, Row, stage_lines
from data.check_images import letterboxed
from data.image_file import read_image
from experiments.training_runs import CHANGED, ROOT, checked_out
from utils.errors import ConfigError, UserError
from utils.logs import configure_logging
from utils.machine import processor_name
from utils.strict_yaml import write_yaml
from utils.structures import FloatArray

logger = logging.getLogger(__name__)
RUNS = ROOT / "runs" / "bench"
PEER_PYTHON = ROOT / ".venv-peer" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
PACKAGES = (
    *("torch", "torchvision", "numpy", "opencv-python", "opencv-python-headless"),
    *("onnxruntime", "pycocotools"),
)


@dataclass(frozen=True, slots=True)
class Options:
    """What a stage is given.

    Attributes:
        shared: folder with data/coco128, data/video/street.mp4 and weights/yolov5n.pt.
        folder: for what the stage writes while it runs; empty.
        image_size: side of the network input in pixels.
        count: images, frames or samples of a turn.
    """

    shared: Path
    folder: Path
    image_size: int
    count: int

    def file(self, name: str) -> Path:
        """A file or folder of the shared ones.

        Raises:
            ConfigError: it is not there.
        """
        path = self.shared / name
        if not path.exists():
            raise ConfigError(f"{path}: not there; --shared names the folder with {name}")
        return path

    @property
    def weights(self) -> Path:
        """A checkpoint that both sides read."""
        return self.file("weights/yolov5n.pt")

    def network_inputs(self) -> FloatArray:
        """The first `count` images of coco128, letterboxed: (B, 3, H, W) in 0-1."""
        side = (self.image_size, self.image_size)
        return np.concatenate([letterboxed([read_image(path)], side) for path in self.images()])

    def images(self) -> list[Path]:
        """The first `count` images of coco128.

        Raises:
            ConfigError: there are none.
        """
        source = self.file("data/coco128")
        found = sorted(source.glob("images/*/*.jpg"))[: self.count]
        if not found:
            raise ConfigError(f"{source}: has no images/*/*.jpg")
        return found

    def copied_images(self, copies: int = 1) -> Path:
        """The first `count` images of coco128 with their labels, each so many times.

        Copies, because the peer writes beside the labels. The folder has `images` and `labels`.

        Raises:
            ConfigError: there are no images.
        """
        folder = self.folder / "coco128"
        for kind in ("images", "labels"):
            (folder / kind).mkdir(parents=True)
        for image in self.images():
            labels = image.parents[2] / "labels" / image.parent.name
            label = labels / f"{image.stem}.txt"
            for number in range(copies):
                shutil.copyfile(image, folder / "images" / f"{image.stem}_{number}.jpg")
                if label.exists():
                    shutil.copyfile(label, folder / "labels" / f"{image.stem}_{number}.txt")
        return folder


def write_data_yaml(folder: Path, names: Sequence[str]) -> Path:
    """A data yaml of a folder with `images` and `labels` that both sides read."""
    path = folder / "data.yaml"
    content = {"path": str(folder), "train": "images", "val": "images", "nc": len(names)}
    write_yaml(path, {**content, "names": list(names)})
    return path


Prepare = Callable[[Options, Peer | None], AbstractContextManager[Sequence[Contestant]]]


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the work, measured by a command of its own.

    Attributes:
        name: of the module.
        title: what is measured; may have {count} and {imgsz} of the run.
        floor: what the floors are.
        rows: of the table.
        prepare: makes the contestants.
        agreements: what they must agree in.
        rounds: by default.
        count: see Options, by default.
        image_size: see Options, by default.
        rotate: see run_rounds.
    """

    name: str
    title: str
    floor: str
    rows: tuple[Row, ...]
    prepare: Prepare
    agreements: tuple[Agreement, ...] = ()
    rounds: int = 5
    count: int = 1
    image_size: int = 640
    rotate: bool = True

    def file(self, runs: Path) -> Path:
        """Where its rounds are kept."""
        return runs / f"{self.name}.jsonl"


@contextmanager
def open_peer(python: Path, folder: Path) -> Iterator[tuple[Peer | None, dict[str, Any]]]:
    """The peer with its versions, or None with the reason."""
    try:
        with Peer(python.absolute(), folder) as peer:  # a link stays a link
            yield peer, dict(peer.versions)
    except PeerFailedError as error:
        logger.warning("the peer is skipped: %s", error)
        yield None, {"skipped": str(error)}


def run_stage(stage: Stage, given: argparse.Namespace) -> Found:
    """Measure what is missing.

    Raises:
        UserError: a flag or a file is wrong.
        RunFailedError: something that is measured failed.
    """
    if min(given.rounds, given.imgsz, given.count) < 1:
        raise ConfigError("--rounds, --imgsz, --count: must be at least 1")
    runs: Path = given.runs.resolve()
    folder = runs / f"{stage.name}_files"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    options = Options(given.shared.resolve(), folder, given.imgsz, given.count)
    try:
        with open_peer(given.peer, folder) as (peer, versions):
            setting = {**_setting(stage, given), "peer": versions}
            if given.fresh or setting["commit"].endswith(CHANGED):  # what changed is not known
                stage.file(runs).unlink(missing_ok=True)
            with MeasuredFile(stage.file(runs), setting, replace=True) as measured:
                measured.add({"started": _now(), "load": load_average()})
                with stage.prepare(options, peer) as contestants:
                    run_rounds(contestants, given.rounds, measured, rotate=stage.rotate)
                measured.add({"ended": _now()})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Found.read(stage.file(runs))


def _now() -> str:
    return datetime.datetime.now().isoformat(timespec="seconds")


def _setting(stage: Stage, given: argparse.Namespace) -> dict[str, Any]:
    """What must be equal for a cut run to go on: no paths of a machine."""
    versions = {name: metadata.version(name) for name in PACKAGES if _installed(name)}
    return {
        "stage": stage.name, "rounds": given.rounds, "imgsz": given.imgsz, "count": given.count,
        "commit": checked_out(), "date": datetime.date.today().isoformat(),
        "machine": processor_name(), "cores": os.cpu_count(),
        "python": platform.python_version(), "versions": versions,
    }  # fmt: skip


def _installed(name: str) -> bool:
    return any(True for _ in metadata.distributions(name=name))


def add_common_flags(parser: argparse.ArgumentParser) -> None:
    """What every stage and `python -m benchmarks` take."""
    parser.add_argument(
        "--shared", type=Path, default=ROOT.parent / "shared",
        help="folder with data/coco128, data/video/street.mp4 and weights/yolov5n.pt",
    )  # fmt: skip
    parser.add_argument(
        "--peer", type=Path, default=PEER_PYTHON, help="a Python with the package yolov5"
    )
    parser.add_argument("--runs", type=Path, default=RUNS, help="where rounds are kept")
    parser.add_argument("--fresh", action="store_true", help="measure again what is measured")


def stage_main(stage: Stage, argv: Sequence[str] | None) -> int:
    """The command line of a stage: measure, print its rows; returns the exit code."""
    described = stage.title.format(count=stage.count, imgsz=stage.image_size)
    parser = argparse.ArgumentParser(description=described)
    add_common_flags(parser)
    parser.add_argument("--rounds", type=int, default=stage.rounds)
    parser.add_argument("--imgsz", type=int, default=stage.image_size, help="side of the input")
    parser.add_argument(
        "--count", type=int, default=stage.count, help="images, frames or samples of a turn"
    )
    given = parser.parse_args(argv)
    configure_logging()
    logger.info("%s", stage.title.format_map(vars(given)))
    try:
        found = run_stage(stage, given)
    except UserError as error:
        logger.error("error: %s", error)
        return 2
    except RunFailedError as error:
        logger.error("%s", error)
        return 1
    lines = stage_lines(stage.rows, stage.agreements, found)
    sys.stdout.write("\n".join([*lines, ""]))
    sys.stdout.flush()
    return 0
