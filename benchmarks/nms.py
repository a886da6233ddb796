"""Suppression at score 0.001, as val.py needs it: `python -m benchmarks.nms`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from benchmarks.parts import seconds_in
from benchmarks.peer import Peer
from benchmarks.rounds import Contestant, Turn, timed
from benchmarks.rows import Agreement, Goal, Row
from benchmarks.stage import Options, Stage, stage_main
from models.runtimes.torch_predictor import compiled_nms, postprocess_on_device
from models.runtimes.torch_runner import TorchRunner
from utils.nms import nms
from utils.postprocess import VAL_POSTPROCESS, postprocess
from utils.structures import Detections, FloatArray

REPEATS = 5
NUMPY, TORCH = "numpy", "torch"
NUMPY_ALONE = "numpy, without choosing the pairs"
TORCH_ALONE = "torch, without choosing the pairs: torchvision's compiled function"


def suppressed(run: Callable[[], Sequence[Detections]], count: int) -> Turn:
    """Seconds per image, how many boxes stay and the sum of their scores."""
    seconds = timed(run, REPEATS, count)
    found = run()
    total = float(sum(each.scores.astype(np.float64).sum() for each in found))
    return Turn(seconds, {"boxes": sum(map(len, found)), "sum of scores": total})


def suppressed_in_parts(
    run: Callable[[], Sequence[Detections]],
    count: int,
    function: Callable[..., object],
    name: str,
) -> Turn:
    """`suppressed`, and under a name the seconds per image of a function within."""
    whole = suppressed(run, count)  # warms what is called up
    alone = seconds_in(run, {name: function})[name] / count
    return replace(whole, also={name: alone})


def sorted_pairs(decoded: FloatArray) -> list[FloatArray]:
    """The scores of all pairs of box and class that count, sorted, of each image."""
    found = []
    for rows in decoded:
        candidates = rows[rows[:, 4] > VAL_POSTPROCESS.score_threshold]
        scores = candidates[:, 5:] * candidates[:, 4:5]
        found.append(np.sort(scores[scores > VAL_POSTPROCESS.score_threshold]))
    return found


def floor(decoded: FloatArray) -> Turn:
    """Seconds per image of `sorted_pairs`."""
    seconds = timed(partial(sorted_pairs, decoded), REPEATS, len(decoded))
    return Turn(seconds, {"pairs": sum(map(len, sorted_pairs(decoded)))})


@contextmanager
def prepare(options: Options, peer: Peer | None) -> Iterator[Sequence[Contestant]]:
    """All take the same decoded rows, of real images."""
    runner = TorchRunner(options.weights, device="cpu")
    rows = [runner.run(image[None]) for image in options.network_inputs()]
    decoded = np.ascontiguousarray(np.concatenate(rows))
    tensors = torch.from_numpy(decoded)

    def in_numpy() -> list[Detections]:
        return [postprocess(each, VAL_POSTPROCESS) for each in decoded]

    def in_torch() -> list[Detections]:
        return [postprocess_on_device(each, VAL_POSTPROCESS) for each in tensors]

    count = len(decoded)
    found = [
        Contestant(NUMPY, partial(suppressed_in_parts, in_numpy, count, nms, NUMPY_ALONE)),
        Contestant(TORCH, partial(suppressed_in_parts, in_torch, count, compiled_nms, TORCH_ALONE)),
        Contestant("pairs sorted", partial(floor, decoded)),
    ]
    if peer is not None:
        saved = options.folder / "decoded.npy"
        np.save(saved, decoded)
        found.append(
            peer.contestant(
                "peer",
                "suppress",
                decoded=str(saved),
                score=VAL_POSTPROCESS.score_threshold,
                iou=VAL_POSTPROCESS.iou_threshold,
                max_detections=VAL_POSTPROCESS.max_detections,
            )
        )
    yield found


STAGE = Stage(
    name="nms",
    title="Suppression at score 0.001 and IoU 0.6, several classes a box, yolov5n.pt, {imgsz} px",
    floor="finding the pairs of box and class above the threshold, and one sort of their scores",
    rows=(
        Row("suppression in numpy (val.py on a CPU)", NUMPY, "peer", "pairs sorted",
            goal=Goal("at most 0.33 of the peer", 0.33)),
        Row("suppression in torch (val.py on a GPU)", TORCH, "peer", "pairs sorted"),
    ),
    prepare=prepare,
    agreements=(
        Agreement("boxes", NUMPY, TORCH),
        Agreement("boxes", NUMPY, "peer"),
        Agreement("sum of scores", NUMPY, "peer", relative=1e-5),
    ),
    rounds=7,
    count=16,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    return stage_main(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
