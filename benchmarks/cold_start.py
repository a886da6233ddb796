"""detect.py on one image, from starting the process to its end: `python -m benchmarks.cold_start`.

With a checkpoint and with an ONNX file of it. The first round warms the system's memory of files.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.measurement import RunFailedError, output_of, script, seconds_of
from benchmarks.peer import Peer
from benchmarks.rounds import Contestant, Turn
from benchmarks.rows import Agreement, Goal, Row
from benchmarks.stage import Options, Stage, stage_main

FLOORS = {
    "import torch": "import torch",
    "import OpenCV and onnxruntime": "import cv2, onnxruntime",
}


def detect_once(weights: Path, image: Path, options: Options) -> Turn:
    """A process of detect.py that writes its boxes as text.

    Raises:
        RunFailedError: it fails.
    """
    project = options.folder / "detect"
    before = set(project.glob("*"))
    flags = ["--nosave", "--save-txt", "--project", project, "--device", "cpu",
             "--imgsz", options.image_size]  # fmt: skip
    seconds = seconds_of(script("detect.py", "--weights", weights, "--source", image, *flags))
    made = set(project.glob("*")) - before
    files = [file for folder in made for file in folder.glob("labels/*.txt")]
    boxes = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
    if not boxes:
        raise RunFailedError(f"detect.py found nothing in {image.name} with {weights.name}")
    return Turn(seconds, {"boxes": boxes})


def bare_import(code: str) -> Turn:
    """A process that only imports."""
    return Turn(seconds_of([sys.executable, "-c", code]))


@contextmanager
def prepare(options: Options, peer: Peer | None) -> Iterator[Sequence[Contestant]]:
    """Exports the checkpoint; the peer takes the checkpoint itself."""
    image, exported = options.images()[0], options.folder / "network.onnx"
    flags = ["--output", exported, "--imgsz", options.image_size, "--dynamic"]
    output_of(script("export.py", "--weights", options.weights, *flags))
    found = [
        Contestant("ours, .pt", partial(detect_once, options.weights, image, options)),
        Contestant("ours, .onnx", partial(detect_once, exported, image, options)),
    ]
    found += [Contestant(name, partial(bare_import, code)) for name, code in FLOORS.items()]
    if peer is not None:
        found.append(
            peer.run(
                "peer, .pt",
                "detect",
                weights=str(options.weights),
                source=str(image),
                image_size=options.image_size,
                save=False,
            )
        )
    yield found


STAGE = Stage(
    name="cold_start",
    title="Detection in one image in a new process, yolov5n, {imgsz} px",
    floor="a process that imports torch, or OpenCV and onnxruntime, and ends",
    rows=(
        Row("detect, one image, new process, .pt", "ours, .pt", "peer, .pt", "import torch", "s",
            1.0, Goal("at most 0.35 of the peer", 0.35)),
        Row("detect, one image, new process, .onnx (peer: .pt)", "ours, .onnx", "peer, .pt",
            "import OpenCV and onnxruntime", "s", 1.0, Goal("keep 0.34 s")),
    ),
    prepare=prepare,
    agreements=(
        Agreement("boxes", "ours, .pt", "peer, .pt"),
        Agreement("boxes", "ours, .onnx", "ours, .pt"),
    ),
    rounds=5,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    return stage_main(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
