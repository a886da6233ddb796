"""Seconds of a training step: `python -m benchmarks.training_step`.

Forward, loss, backward, clipping, optimizer and average, yolov5s with random weights. The peer does
the same with the functions that its train.py calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from benchmarks.peer import Peer
from benchmarks.rounds import Contestant, Turn, timed
from benchmarks.rows import Goal, Row
from benchmarks.stage import Options, Stage, stage_main
from benchmarks.training_batches import peer_targets, random_batch, scaled_hyp
from models.losses.loss import DetectionLoss, LossConfig
from models.network.box_coder import BoxCoder
from models.network.detector import build_model
from models.network.model_spec import ModelSpec
from utils.batches import Batch
from utils.engine.ema import ModelEMA
from utils.engine.epoch import train_batch
from utils.engine.optim import OptimizerConfig
from utils.engine.training_state import Precision, StateConfig, order_in_memory, start_training
from utils.letterbox import scale_pixel_tensor

CFG = "yolov5s.yaml"
SETTINGS = {
    "float32": StateConfig(),
    "bfloat16, channels last": StateConfig(amp="bf16", channels_last=True),
}


def whole_step(batch: Batch, config: StateConfig) -> Callable[[], None]:
    """A step as train.py takes it."""
    torch.manual_seed(0)
    model = build_model(ModelSpec.from_file(CFG)).train()
    coder, size = BoxCoder.of(model), batch.images.shape[-1]
    criterion = DetectionLoss(coder, model.spec.num_classes, size, LossConfig())
    # A low rate: the batch is noise, and the same each time.
    state = start_training(
        model, model.layers, ModelEMA(model), replace(OptimizerConfig(), lr0=1e-4), config,
        batch_size=len(batch.images),
    )  # fmt: skip
    return partial(train_batch, state, criterion, batch, batch.images.device)


def bare_step(batch: Batch, config: StateConfig) -> Callable[[], None]:
    """The network alone, forward and backward."""
    torch.manual_seed(0)
    model = build_model(ModelSpec.from_file(CFG)).train()
    device = batch.images.device
    memory_format = order_in_memory(model, device, channels_last=bool(config.channels_last))
    images = scale_pixel_tensor(batch.images, torch.float32)
    images = images.contiguous(memory_format=memory_format)
    precision = Precision.choose(config.amp, device)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        with precision.autocast(device):
            maps = model(images)
        torch.autograd.backward(maps, [torch.ones_like(each) for each in maps])

    return step


def one_step(step: Callable[[], None]) -> Turn:
    """Seconds of a step after one that is not counted."""
    return Turn(timed(step))


@contextmanager
def prepare(options: Options, peer: Peer | None) -> Iterator[Sequence[Contestant]]:
    """Both take the same batch."""
    batch = random_batch(options.count, options.image_size)
    found = []
    for name, config in SETTINGS.items():
        for kind, make in (("ours", whole_step), ("network", bare_step)):
            found.append(Contestant(f"{kind}, {name}", partial(one_step, make(batch, config))))
    if peer is not None:
        path = options.folder / "batch.npz"
        np.savez(path, images=batch.images.numpy(), targets=peer_targets(batch))
        hyp = scaled_hyp(options.image_size)
        found.append(peer.contestant("peer", "train_steps", cfg=CFG, batch=str(path), hyp=hyp))
    yield found


STAGE = Stage(
    name="training_step",
    title="A training step of yolov5s, {imgsz} px, batch {count}",
    floor="the network alone, forward and backward, in the same precision",
    rows=(
        Row("training step, float32", "ours, float32", "peer", "network, float32", "s", 1.0),
        Row(
            "training step, bfloat16 and channels last, against the peer's float32",
            "ours, bfloat16, channels last",
            "peer",
            "network, bfloat16, channels last",
            "s",
            1.0,
            Goal("at most 0.42 of the peer", 0.42),
        ),
    ),
    prepare=prepare,
    count=16,
    image_size=320,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    return stage_main(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
