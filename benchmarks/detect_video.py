"""detect.py on a video, boxes drawn and the video written: `python -m benchmarks.detect_video`.

The floor is the larger of two times, measured in the same rounds: that of the network alone, and
what all stages take on all cores together, divided by the number of cores.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.measurement import output_of, script, seconds_of
from benchmarks.peer import Peer
from benchmarks.rounds import Contestant, Turn
from benchmarks.rows import Agreement, Row
from benchmarks.stage import Options, Stage, stage_main
from benchmarks.stage_times import time_stages
from data.video import read_video_file
from utils.video_output import VideoFile

VIDEO = "data/video/street.mp4"


def clip(source: Path, path: Path, count: int) -> Path:
    """The first frames of a video as a video."""
    frames = itertools.islice(read_video_file(source, 1), count)
    reader, _, image = next(frames)
    with VideoFile(path, reader.fps, (image.shape[0], image.shape[1])) as output:
        output.write(image)
        for _, _, image in frames:
            output.write(image)
    return path


def run_ours(weights: Path, video: Path, folder: Path) -> Turn:
    """A process of detect.py; a part of it is the loop over its frames, loading not counted."""
    report = folder / "report.json"
    seconds = seconds_of(script(
        "detect.py", "--weights", weights, "--source", video, "--device", "cpu",
        "--project", folder / "detect", "--report", report,
    ))  # fmt: skip
    counted = json.loads(report.read_text(encoding="utf-8"))
    frames = counted["frames"]
    facts = {"frames": frames, "boxes": counted["detections"]}
    return Turn(seconds, facts, {"ours, frames": frames / counted["frames_per_second"]})


def run_stages(weights: Path, video: Path, folder: Path) -> Turn:
    """Each stage by itself; the seconds are the floor of all of them together."""
    found = time_stages(weights, video, folder)
    alone = {f"{stage} alone": seconds for stage, seconds in found.wall.items()}
    cores = {f"{stage} alone, all cores": seconds for stage, seconds in found.cores.items()}
    return Turn(found.floor(os.cpu_count() or 1), also={**alone, **cores})


@contextmanager
def prepare(options: Options, peer: Peer | None) -> Iterator[Sequence[Contestant]]:
    """Exports the checkpoint; the peer takes the checkpoint itself."""
    video = clip(options.file(VIDEO), options.folder / "clip.mp4", options.count)
    weights = options.folder / "network.onnx"
    flags = ["--output", weights, "--imgsz", options.image_size, "--dynamic"]
    output_of(script("export.py", "--weights", options.weights, *flags))
    found = [
        Contestant("stages", partial(run_stages, weights, video, options.folder)),
        Contestant("ours", partial(run_ours, weights, video, options.folder)),
    ]
    if peer is not None:
        found.append(
            peer.run(
                "peer",
                "detect",
                weights=str(options.weights),
                source=str(video),
                image_size=options.image_size,
                save=True,
            )
        )
    yield found


STAGE = Stage(
    name="detect_video",
    title="Detection in a video of {count} frames, yolov5n, boxes drawn and the video written; "
    "ours runs the ONNX file, the peer the checkpoint",
    floor="the larger of the network's time and the sum of all stages' divided by the cores",
    rows=(
        Row("detect.py, video, whole process", "ours", "peer", "stages", "s", 1.0),
        Row("detect.py, video, its frames", "ours, frames", "", "stages", "s", 1.0),
    ),
    prepare=prepare,
    # Codecs and the form of the network differ: nearly the same boxes.
    agreements=(Agreement("boxes", "ours", "peer", relative=0.02),),
    rounds=3,
    count=100,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    return stage_main(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
