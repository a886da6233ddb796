"""Time per image, one at a time: `python -m benchmarks.speed_test --source DIR`.

Without --weights: yolov5s and repyolov5s, SiLU and LeakyReLU, each as a checkpoint as it was
trained and folded, as ONNX and as 8-bit ONNX, with random weights. They take turns, BLOCK images
each, so that a machine that slows down slows all of them. The same command goes on where it was
cut. Run nothing else at the same time.

A folder with fewer images than are asked for is read again and again:
`--images 500 5000` makes two columns; 64115 and 118287 are the article's others.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch

from benchmarks.measured_file import MeasuredFile
from benchmarks.speed_networks import TimedNetwork, standard_networks, users_networks
from benchmarks.speed_report import STAGES, Measurement, Speed, write_report
from data.check_images import letterboxed
from data.image_file import read_image
from data.listing import list_images
from utils.child_process import run_child
from utils.detect.pipeline import Found, FrameDetector, StageClock, prepared
from utils.errors import ConfigError, DatasetError, UserError
from utils.letterbox import InputSize
from utils.logs import Progress, configure_logging
from utils.postprocess import PostprocessConfig
from utils.structures import FittedFrame, Frame

logger = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[1]
REPORTS = ROOT / "docs" / "benchmarks"
BLOCK = 10  # images of a network before the next one takes its turn
PAUSE = 0.05  # seconds before a turn: threads of the runtime before keep spinning for a while
CALIBRATION_IMAGES = 4
MEASURED = "measured.jsonl"


@dataclass(frozen=True, slots=True)
class Setting:
    """What is measured, and how.

    Attributes:
        images: the files, each readable.
        counts: images of a run; they are cycled through.
        repeats: runs with each count.
        image_size: side of the input in pixels.
        threads: of each runtime.
    """

    images: tuple[Path, ...]
    counts: tuple[int, ...]
    repeats: int
    image_size: int
    threads: int

    def blocks(self) -> Iterator[tuple[int, int, int, list[Path]]]:
        """Count, run, number of the block and its images, in the order of measuring."""
        for count in self.counts:
            for run in range(self.repeats):
                cycled = itertools.islice(itertools.cycle(self.images), count)
                for number in range(-(-count // BLOCK)):
                    yield count, run, number, list(itertools.islice(cycled, BLOCK))

    def detector(self, network: TimedNetwork) -> FrameDetector:
        """The network with detect.py's rules."""
        runner = network.open(self.threads)
        height, width = runner.input_hw
        size = InputSize((height or self.image_size, width or self.image_size), None)
        return FrameDetector(runner, runner.class_names, size, PostprocessConfig())


def measure_block(detector: FrameDetector, images: Sequence[Path]) -> tuple[list[list[float]], int]:
    """Milliseconds of each stage of each image, and how many objects were found in all.

    The first image is processed once more before, which is not counted.
    """
    clock, found, times = StageClock(STAGES), 0, []
    frames = _frames([images[0], *images], detector.size)
    for result in detector.find(prepared(frames, clock), clock):
        if isinstance(result, Found):
            times.append([round(1000 * clock.last[stage], 3) for stage in STAGES])
            found += len(result.detections) if len(times) > 1 else 0
    return times[1:], found


def _frames(paths: Sequence[Path], size: InputSize) -> Iterator[list[FittedFrame]]:
    for number, path in enumerate(paths):
        image = read_image(path)
        frame = Frame(image, str(path), path, number + 1, len(paths), 1, 1, None, False)
        yield [FittedFrame(number, frame, size.letterbox(frame.image_hw))]


def measure(setting: Setting, networks: Sequence[TimedNetwork], results: MeasuredFile) -> None:
    """Measure what `results` lacks: every block with each network in turn."""
    done = {(each["count"], each["run"], each["block"], each["network"])
            for each in results.entries if "block" in each}  # fmt: skip
    detectors = {network.key: setting.detector(network) for network in networks}
    blocks = list(setting.blocks())
    for count, run, number, images in Progress(blocks, len(blocks), "warm", "block"):
        # Another one begins each time: none is always the one after the slowest.
        first = number % len(networks)
        for network in [*networks[first:], *networks[:first]]:
            key = (count, run, number, network.key)
            if key not in done:
                time.sleep(PAUSE)
                times, found = measure_block(detectors[network.key], images)
                results.add(
                    {"count": count, "run": run, "block": number, "network": network.key,
                     "ms": times, "found": found}
                )  # fmt: skip


def measure_cold(
    setting: Setting,
    networks: Sequence[TimedNetwork],
    results: MeasuredFile,
    arguments: Sequence[str],
) -> None:
    """The first image of a new process, as often as there are repeats."""
    rounds = [(run, network) for run in range(setting.repeats) for network in networks]
    for run, network in Progress(rounds, len(rounds), "cold", "process"):
        if results.has(cold=run, network=network.key):
            continue
        command = [sys.executable, "-m", "benchmarks.speed_test", *arguments, "--cold-of",
                   network.key]  # fmt: skip
        done = run_child(command, cwd=ROOT, capture=True)
        results.add({"cold": run, "network": network.key, **json.loads(done.stdout)})


def print_cold(setting: Setting, network: TimedNetwork) -> None:
    """Open a network and print the seconds of it and the stages of its first image."""
    start = time.perf_counter()
    detector = setting.detector(network)
    opened = time.perf_counter() - start
    clock = StageClock(STAGES)
    list(detector.find(prepared(_frames(setting.images[:1], detector.size), clock), clock))
    first = [1000 * clock.seconds[stage] for stage in STAGES]
    sys.stdout.write(json.dumps({"open_s": opened, "ms": first}) + "\n")


def _readable(source: Path, count: int) -> tuple[Path, ...]:
    """As many of the images as are needed, those that cannot be read skipped; read once: warm."""
    found: list[Path] = []
    for path in map(Path, list_images(source)):
        try:
            read_image(path)
        except DatasetError as error:
            logger.warning("%s: skipped: %s", path, error)
            continue
        found.append(path)
        if len(found) == count:
            break
    if not found:
        raise DatasetError(f"--source {source}: no image that can be read")
    return tuple(found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="folder of images")
    parser.add_argument("--weights", type=Path, nargs="+", default=[], help="instead of yolov5s")
    parser.add_argument("--images", type=int, nargs="+", default=[500], help="in a run")
    parser.add_argument("--repeats", type=int, default=3, help="runs")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "speed_test")
    parser.add_argument("--out", type=Path, default=REPORTS)
    parser.add_argument("--cold-of", default="", help="only print the first image's times")
    return parser


def _run(argv: Sequence[str]) -> None:
    given = _parser().parse_args(argv)
    counts = tuple(sorted(set(given.images)))
    if min(*counts, given.repeats, given.imgsz, given.threads) < 1:
        raise ConfigError("--images, --repeats, --imgsz, --threads: must be at least 1")
    torch.set_num_threads(given.threads)
    images = _readable(given.source, 1 if given.cold_of else max(counts))
    setting = Setting(images, counts, given.repeats, given.imgsz, given.threads)
    if given.weights:
        networks = users_networks(given.weights)
    else:
        few = [letterboxed([read_image(path)], (given.imgsz, given.imgsz))
               for path in images[:CALIBRATION_IMAGES]]  # fmt: skip
        networks = standard_networks(given.runs / "networks", given.imgsz, few)
    if given.cold_of:
        print_cold(setting, next(each for each in networks if each.key == given.cold_of))
        return
    described = {
        "networks": [network.key for network in networks], "images": len(images),
        "source": str(given.source), "counts": list(counts), "repeats": given.repeats,
        "image_size": given.imgsz, "threads": given.threads, "opencv_threads": cv2.getNumThreads(),
    }  # fmt: skip
    with MeasuredFile(given.runs / MEASURED, described) as results:
        measure_cold(setting, networks, results, argv)
        measure(setting, networks, results)
    speed = Speed(networks, counts, [Measurement.of(each) for each in results.entries])
    sys.stdout.write(write_report(given.out, speed, described))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing, print the table and write the report; returns the exit code."""
    configure_logging()
    try:
        _run(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        logger.error("error: %s", error)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
