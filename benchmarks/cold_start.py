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

TORCH, BARE = "import torch", "bare_onnx.py"  # the floors
COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}  # what is imported is compiled once, as it is for users


def detect_once(weights: Path, image: Path, options: Options) -> Turn:
    """A process of detect.py that writes its boxes as text.

    Raises:
        RunFailedError: it fails.
    """
    project = options.folder / "detect"
    before = set(project.glob("*"))
    flags = ["--nosave", "--save-txt", "--project", project, "--device", "cpu",
             "--imgsz", options.image_size]  # fmt: skip
    command = script("detect.py", "--weights", weights, "--source", image, *flags)
    seconds = seconds_of(command, variables=COMPILED)
    made = set(project.glob("*")) - before
    files = [file for folder in made for file in folder.glob("labels/*.txt")]
    boxes = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
    if not boxes:
        raise RunFailedError(f"detect.py found nothing in {image.name} with {weights.name}")
    return Turn(seconds, {"boxes": boxes})


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
    found += [
        Contestant(TORCH, lambda: Turn(seconds_of([sys.executable, "-c", TORCH]))),
        Contestant(BARE, lambda: Turn(seconds_of(script(f"benchmarks/{BARE}", exported, image)))),
    ]
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
    floor="a process that imports torch and ends, or runs the file with nothing of this project",
    rows=(
        Row("detect, one image, new process, .pt", "ours, .pt", "peer, .pt", TORCH, "s",
            1.0, Goal("at most 0.35 of the peer", 0.35)),
        Row("detect, one image, new process, .onnx (peer: .pt)", "ours, .onnx", "peer, .pt",
            BARE, "s", 1.0, Goal("keep 0.34 s")),
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
