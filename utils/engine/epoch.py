"""One epoch of training over parts handed in."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from utils.device import peak_memory_mb
from utils.engine.ema import ModelT
from utils.engine.optim import clip_gradients
from utils.engine.schedule import Schedule
from utils.engine.training_state import TrainingState
from utils.errors import DivergedError
from utils.letterbox import scale_pixel_tensor
from utils.logs import Progress
from utils.structures import Batch

logger = logging.getLogger(__name__)
MAX_SKIPPED_IN_ROW = 10


class TrainingLoss(Protocol):
    """A loss to differentiate whose parts can be listed."""

    @property
    def total(self) -> Tensor:
        """What to differentiate."""

    def parts(self) -> Tensor:
        """(3,) box, objectness, class, without gradient."""


Criterion = Callable[[Sequence[Tensor], Batch], TrainingLoss]
OnSkip = Callable[[int, Sequence[Path], str], None]


def train_one_epoch(
    state: TrainingState[ModelT],
    criterion: Criterion,
    batches: Iterable[Batch],
    schedule: Schedule,
    epoch: int,
    *,
    device: torch.device,
    resize: Callable[[Tensor, int], Tensor] | None = None,
    on_skip: OnSkip = lambda _epoch, _paths, _reason: None,
) -> tuple[float, float, float]:
    """Train over all batches once.

    Args:
        state: changed in place.
        criterion: raw predictions and batch -> loss.
        batches: of uint8 images.
        schedule: settings per batch.
        epoch: counted from 0.
        device: where to compute.
        resize: changes the size of a batch's float images (multi-scale); gets the batch number.
        on_skip: told of the epoch, the images of what is left out, and why.

    Returns:
        Mean box, objectness and class loss.

    Raises:
        DivergedError: ten batches or ten steps in a row had to be left out.
    """
    _prepare(state)
    means = _RunningMeans(device)
    progress = Progress(batches, schedule.batches_per_epoch, f"epoch {epoch + 1}/{schedule.epochs}")
    gathered: list[Path] = []  # since the last step
    for number, batch in enumerate(progress):
        done = epoch * schedule.batches_per_epoch + number
        settings = schedule.at(epoch, number)
        settings.apply(state.optimizer)
        loss = _loss(state, criterion, batch.to(device), resize, done)
        finite = torch.isfinite(loss.total)
        if not state.ranks.all_true(finite):
            _restore_norms(state)
            state.bad_losses += 1
            paths = () if finite else batch.paths
            _skip(state, paths, "loss is not finite", epoch, state.bad_losses, on_skip)
            continue
        state.bad_losses = 0
        torch.autograd.backward(state.precision.scaler.scale(loss.total))
        gathered += batch.paths
        if done - state.last_step >= settings.accumulate:
            state.last_step = done
            if not _step(state):
                reason = "gradients are not finite"
                _skip(state, gathered, reason, epoch, state.bad_steps, on_skip)
            gathered.clear()
        means.add(loss.parts(), len(batch.paths) * state.ranks.count)
        progress.note(means.message())
    box, objectness, class_ = state.ranks.average(means.losses()).tolist()
    return box, objectness, class_


class _RunningMeans:
    """What the progress of an epoch shows."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._total = torch.zeros(3, device=device)
        self._batches = self._images = 0
        self._start = time.monotonic()

    def add(self, parts: Tensor, images: int) -> None:
        """Count a batch: (3,) losses and how many images it had over all ranks."""
        self._total += parts
        self._batches += 1
        self._images += images

    def losses(self) -> Tensor:
        """(3,) box, objectness and class."""
        return self._total / max(self._batches, 1)

    def message(self) -> str:
        """Losses, speed, and the most memory used."""
        box, objectness, class_ = self.losses().tolist()
        rate = self._images / (time.monotonic() - self._start)
        memory = peak_memory_mb(self._device) / 1000
        return (
            f"box {box:.4f}  obj {objectness:.4f}  cls {class_:.4f}  "
            f"{rate:.1f} images/s  {memory:.1f} GB"
        )


def train_batch(state: TrainingState[ModelT], criterion: Criterion, batch: Batch) -> None:
    """One batch forward and backward, and a step."""
    _prepare(state)
    loss = _loss(state, criterion, batch, None, 0)
    torch.autograd.backward(state.precision.scaler.scale(loss.total))
    _step(state)


def _prepare(state: TrainingState[ModelT]) -> None:
    """Train mode, frozen layers aside, and no gradients of an earlier epoch."""
    state.model.train()
    for layer in state.frozen:
        layer.eval()
    state.optimizer.zero_grad()


def _loss(
    state: TrainingState[ModelT],
    criterion: Criterion,
    batch: Batch,
    resize: Callable[[Tensor, int], Tensor] | None,
    done: int,
) -> TrainingLoss:
    """Of a batch on its device, in the run's precision."""
    images = scale_pixel_tensor(batch.images, torch.float32)
    images = images.contiguous(memory_format=state.memory_format)
    if resize is not None:
        images, batch = _resized(images, batch, resize, done)
    batch = replace(batch, images=images)  # for a criterion that looks at them too
    with state.precision.autocast(images.device):
        return criterion(state.parallel(images), batch)


def _step(state: TrainingState[ModelT]) -> bool:
    """One optimizer step with clipped gradients, then the average follows.

    Returns:
        Whether the gradients were finite, or their scale (float16) is still being searched for.
    """
    scaler = state.precision.scaler
    scaler.unscale_(state.optimizer)
    finite = math.isfinite(clip_gradients(state.model))
    if finite or scaler.is_enabled():  # an enabled scaler leaves out bad steps by itself
        scaler.step(state.optimizer)
        scaler.update()
    if finite:
        state.ema.update(state.model)
        state.bad_steps = 0
    else:
        state.bad_steps += 1
    state.optimizer.zero_grad()
    return finite or (scaler.is_enabled() and scaler.get_scale() >= 1)


def _skip(
    state: TrainingState[ModelT],
    paths: Sequence[Path],
    reason: str,
    epoch: int,
    in_row: int,
    on_skip: OnSkip,
) -> None:
    """Count what is left out, name its images, and give up after too many in a row."""
    state.skipped_steps += 1
    everywhere = [path for part in state.ranks.gather(list(paths)) for path in part]
    on_skip(epoch, everywhere, reason)
    names = ", ".join(path.name for path in everywhere[:4])
    logger.warning("%s: skipped (%d so far; %s, ...)", reason, state.skipped_steps, names)
    if in_row >= MAX_SKIPPED_IN_ROW:
        raise DivergedError(
            f"{in_row} in a row were skipped ({reason}): training has diverged; try --amp off, a "
            "smaller lr0 in --hyp, or other --weights, and look at the images that were skipped"
        )


@torch.no_grad()
def _restore_norms(state: TrainingState[ModelT]) -> None:
    """Undo what the forward pass of a bad batch did to running statistics that are now broken."""
    averages = dict(state.ema.model.named_buffers())
    for name, buffer in state.model.named_buffers():
        if not torch.isfinite(buffer).all():
            buffer.copy_(averages[name])


def _resized(
    images: Tensor, batch: Batch, resize: Callable[[Tensor, int], Tensor], done: int
) -> tuple[Tensor, Batch]:
    """Images at another size, and the batch's boxes scaled with them."""
    resized = resize(images, done)
    scale = resized.shape[3] / images.shape[3], resized.shape[2] / images.shape[2]
    return resized, replace(batch, boxes=batch.boxes * batch.boxes.new_tensor(scale * 2))
