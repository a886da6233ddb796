"""Loss and assignment, forward and backward: `python -m benchmarks.loss`.

From the raw maps of a training step of yolov5s to their gradient. The peer's loss reads maps in
another order, which its head makes; a second series of the peer counts that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from benchmarks.peer import Peer
from benchmarks.rounds import Contestant, Turn, timed
from benchmarks.rows import Agreement, Goal, Row
from benchmarks.stage import Options, Stage, stage_main
from benchmarks.training_batches import peer_targets, random_batch, scaled_hyp
from models.losses.loss import DetectionLoss, LossConfig
from models.network.box_coder import BoxCoder
from models.network.detector import build_model
from models.network.model_spec import ModelSpec

CFG = "yolov5s.yaml"
REPEATS = 5


@contextmanager
def prepare(options: Options, peer: Peer | None) -> Iterator[Sequence[Contestant]]:
    """Both take the same maps and labels."""
    batch = random_batch(options.count, options.image_size)
    model = build_model(ModelSpec.from_file(CFG))
    criterion = DetectionLoss(
        BoxCoder.of(model), model.spec.num_classes, options.image_size, LossConfig()
    )
    generator = torch.Generator().manual_seed(1)
    channels = len(model.spec.anchors[0]) // 2 * (5 + model.spec.num_classes)
    maps = []
    for stride in model.strides:
        side = options.image_size // stride
        noise = torch.randn(options.count, channels, side, side, generator=generator)
        maps.append(noise.requires_grad_())

    def both() -> float:
        for level in maps:
            level.grad = None
        total = criterion(maps, batch).total
        torch.autograd.backward(total)
        return float(total.detach())

    def ours() -> Turn:
        seconds = timed(both, REPEATS)
        facts = {"loss": both(), "gradient norm": _norm(maps)}
        return Turn(seconds, facts)

    def copied() -> Turn:
        return Turn(timed(lambda: [level.detach().clone() for level in maps], REPEATS))

    found = [Contestant("ours", ours), Contestant("copy of the maps", copied)]
    if peer is not None:
        path, hyp = options.folder / "maps.npz", scaled_hyp(options.image_size)
        content: dict[str, Any] = {str(n): level.detach().numpy() for n, level in enumerate(maps)}
        np.savez(path, targets=peer_targets(batch), **content)
        for name, reorder in (("peer", False), ("peer, with its head's order", True)):
            found.append(
                peer.contestant(
                    name, "compute_loss", cfg=CFG, maps=str(path), hyp=hyp, reorder=reorder
                )
            )
    yield found


def _norm(maps: Sequence[torch.Tensor]) -> float:
    """Of all gradients together."""
    squares = [
        float(level.grad.double().square().sum()) for level in maps if level.grad is not None
    ]
    return float(sum(squares) ** 0.5)


STAGE = Stage(
    name="loss",
    title="Loss and assignment, forward and backward, of the maps of yolov5s, {imgsz} px, batch "
    "{count}",
    floor="one copy of the maps: their gradient, as large as they are, must be written",
    rows=(
        Row(
            "loss and assignment, forward and backward",
            "ours",
            "peer",
            "copy of the maps",
            "ms",
            goal=Goal("at most 0.7 of the peer", 0.7),
        ),
    ),
    prepare=prepare,
    agreements=(
        Agreement("loss", "ours", "peer", relative=1e-5),
        Agreement("gradient norm", "ours", "peer", relative=1e-4),
        Agreement("loss", "ours", "peer, with its head's order", relative=1e-5),
    ),
    rounds=7,
    count=16,
    image_size=320,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    return stage_main(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
