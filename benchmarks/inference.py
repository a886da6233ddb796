"""The network in PyTorch in every form, and in ONNX Runtime: `python -m benchmarks.inference`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.matrix_floor import matrix_seconds
from benchmarks.measurement import output_of, script
from benchmarks.peer import Peer
from benchmarks.rounds import Contestant, Turn, timed
from benchmarks.rows import Agreement, Goal, Row
from benchmarks.stage import Options, Stage, stage_main
from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.conversion.deploy import to_deploy
from models.network.box_coder import BoxCoder
from models.network.detector import Detector, network_gflops
from models.runtimes.open_runner import open_runner
from models.runtimes.torch_runner import fastest_form
from utils.structures import FloatArray

REPEATS = 3
EXACT = ("as loaded", "folded", "folded, channels last")
DEFAULT = EXACT[-1]


def forms(model: Detector) -> dict[str, Detector]:
    """The same network in every form that runs in PyTorch."""
    cpu, folded = torch.device("cpu"), to_deploy(model)
    return {
        "as loaded": model,
        "folded": folded,
        DEFAULT: fastest_form(model, cpu, torch.float32),
        "folded, channels last, bfloat16": fastest_form(model, cpu, torch.bfloat16),
    }


def in_torch(model: Detector, images: FloatArray) -> Callable[[], Tensor]:
    """Runs the network on images and decodes its maps."""
    coder = BoxCoder.of(model)
    batch = torch.from_numpy(images).to(next(model.parameters()).dtype)

    @torch.inference_mode()
    def run() -> Tensor:
        return coder.decode(model(batch))

    return run


def measured(run: Callable[[], Tensor | FloatArray], count: int, expected: FloatArray) -> Turn:
    """Seconds per image, and how far the decoded rows of the first one are from `expected`."""
    seconds = timed(run, REPEATS, count)
    first = np.asarray(run()[0], np.float32)
    return Turn(seconds, {"largest difference": difference(first, expected)})


def difference(rows: FloatArray, expected: FloatArray) -> float:
    """Largest difference of decoded rows, as a part of the largest value of each column's kind."""
    parts = (slice(0, 4), slice(4, None))
    largest = [np.abs(rows[:, part] - expected[:, part]).max() / np.abs(expected[:, part]).max()
               for part in parts]  # fmt: skip
    return float(max(largest))


def matrix_floor(gflops: float) -> Turn:
    """The multiply-adds of an image at the rate of a large matrix product."""
    return Turn(matrix_seconds(gflops, torch.float32))


def of_peer(contestant: Contestant, output: Path, expected: FloatArray) -> Contestant:
    """The same contestant, its rows compared with ours."""

    def turn() -> Turn:
        found = contestant.turn()
        return Turn(found.seconds, {"largest difference": difference(np.load(output), expected)})

    return Contestant(contestant.name, turn)


@contextmanager
def prepare(options: Options, peer: Peer | None) -> Iterator[Sequence[Contestant]]:
    """All run the same letterboxed images."""
    images = options.network_inputs()
    count, side = len(images), (options.image_size, options.image_size)
    model = build_from_checkpoint(read_weights(options.weights))
    with torch.inference_mode():
        expected = np.asarray(in_torch(model, images)()[0])
    found = [
        Contestant(name, partial(measured, in_torch(form, images), count, expected))
        for name, form in forms(model).items()
    ]
    exported = options.folder / "network.onnx"
    flags = ["--weights", options.weights, "--output", exported, "--dynamic"]
    output_of(script("export.py", *flags, "--imgsz", options.image_size))
    run = partial(open_runner(str(exported), device="cpu").run, images)
    found.append(Contestant("ONNX Runtime", partial(measured, run, count, expected)))
    gflops = network_gflops(model, side)
    found.append(Contestant("matrix product", partial(matrix_floor, gflops)))
    if peer is not None:
        saved, rows = options.folder / "images.npy", options.folder / "peer.npy"
        np.save(saved, images)
        theirs = peer.contestant(
            "peer", "run_network", weights=str(options.weights), images=str(saved), output=str(rows)
        )
        found.append(of_peer(theirs, rows, expected))
    yield found


STAGE = Stage(
    name="inference",
    title="yolov5n.pt and decoding, {imgsz} px, batch {count}; the peer folds when it loads",
    floor="the multiply-adds of the network at the rate of one large matrix product (float32)",
    rows=(
        Row("network in PyTorch, as loaded", "as loaded", "peer", "matrix product"),
        Row("network in PyTorch, folded", "folded", "peer", "matrix product"),
        Row(
            "network in PyTorch, folded, channels last (default)",
            DEFAULT,
            "peer",
            "matrix product",
            goal=Goal("the fastest exact form is the default"),
        ),
        Row("the same in bfloat16", "folded, channels last, bfloat16", "peer", "matrix product"),
        Row("ONNX Runtime", "ONNX Runtime", "peer", "matrix product"),
    ),
    prepare=prepare,
    agreements=tuple(
        Agreement("largest difference", name, "as loaded", absolute=1e-3)
        for name in (*EXACT[1:], "ONNX Runtime", "peer")
    ),
    count=8,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    return stage_main(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
