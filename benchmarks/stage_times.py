"""Each stage of detection in a video by itself: wall time, and time of all cores."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.video import read_video_file
from models.runtimes.open_runner import open_runner
from models.runtimes.runner import Runner
from utils.draw import draw_detections
from utils.letterbox import PAD_VALUE, InputSize, choose_input_hw, network_input
from utils.postprocess import PostprocessConfig, postprocess
from utils.structures import ImageArray
from utils.video_output import VideoFile

STAGES = ("decode", "preprocess", "network", "postprocess", "draw", "encode")
CHUNK = 25  # frames that pass through one stage before the next one begins
PAUSE = 0.1  # seconds between stages: threads of the one before finish, or stop spinning


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Seconds of each stage, over all frames.

    Attributes:
        wall: from its start to its end.
        cores: of this process's threads, added up.
    """

    wall: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    cores: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the block."""
        time.sleep(PAUSE)
        wall, cores = time.perf_counter(), time.process_time()
        yield
        self.wall[name] += time.perf_counter() - wall
        self.cores[name] += time.process_time() - cores

    def floor(self, num_cores: int) -> float:
        """What no pipeline of these stages can be faster than."""
        return max(self.wall["network"], sum(self.cores.values()) / num_cores)


def time_stages(weights: Path, video: Path, folder: Path) -> StageTimes:
    """Run the stages of detect.py, drawing and writing included, one after the other.

    Args:
        weights: an exported file.
        video: every frame of it is read.
        folder: where the drawn video goes.
    """
    runner = open_runner(str(weights), device="cpu")
    size = _input_size(runner, weights)
    runner.run(network_input([size.letterbox((64, 64)).apply_image(_gray())]))  # the first is slow
    times, rules = StageTimes(), PostprocessConfig()
    frames = (image for _, _, image in read_video_file(video, 1))
    with contextlib.ExitStack() as cleanup:
        output: VideoFile | None = None
        while True:
            with times.stage("decode"):
                images = list(itertools.islice(frames, CHUNK))
            if not images:
                break
            boxes = [size.letterbox((image.shape[0], image.shape[1])) for image in images]
            with times.stage("preprocess"):
                inputs = [network_input([box.apply_image(image)])
                          for box, image in zip(boxes, images, strict=True)]  # fmt: skip
            with times.stage("network"):
                decoded = [runner.run(each)[0] for each in inputs]
            with times.stage("postprocess"):
                found = [postprocess(rows, rules).in_original(box)
                         for rows, box in zip(decoded, boxes, strict=True)]  # fmt: skip
            with times.stage("draw"):
                drawn = [draw_detections(image, each, runner.class_names)
                         for image, each in zip(images, found, strict=True)]  # fmt: skip
            with times.stage("encode"):
                if output is None:
                    image_hw = (images[0].shape[0], images[0].shape[1])
                    output = cleanup.enter_context(VideoFile(folder / "v.mp4", 25.0, image_hw))
                _write(output, drawn)
        with times.stage("encode"):
            cleanup.close()
    return times


def _input_size(runner: Runner, weights: Path) -> InputSize:
    input_hw = choose_input_hw(
        None, str(weights), runner.stride, known_hw=runner.known_hw, fixed_hw=runner.input_hw
    )
    return InputSize(input_hw, runner.stride if runner.input_hw == (None, None) else None)


def _gray() -> ImageArray:
    return np.full((64, 64, 3), PAD_VALUE, np.uint8)


def _write(output: VideoFile, images: Iterable[ImageArray]) -> None:
    for image in images:
        output.write(image)
