"""One epoch of training over parts handed in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from utils.batches import Batch
from utils.engine.criterion import Criterion, Loss
from utils.engine.optim import clip_gradients
from utils.engine.schedule import Schedule
from utils.engine.training_report import training_row
from utils.engine.training_state import TrainingState
from utils.errors import DivergedError
from utils.letterbox import scale_pixel_tensor
from utils.logs import Progress

logger = logging.getLogger(__name__)
MAX_SKIPPED_IN_ROW = 10

OnSkip = Callable[[int, Sequence[Path], str], None]
Resize = Callable[[Tensor, int], Tensor]


def train_one_epoch(
    state: TrainingState,
    criterion: Criterion,
    batches: Iterable[Batch],
    schedule: Schedule,
    epoch: int,
    *,
    device: torch.device,
    resize: Resize | None = None,
    on_skip: OnSkip = lambda _epoch, _paths, _reason: None,
) -> tuple[float, float, float]:
    """Train over all batches once.

    The host reads from the device once per optimizer step and once per line of progress.

    Args:
        state: changed in place.
        criterion: raw predictions and batch -> loss.
        batches: of uint8 images.
        schedule: settings per batch.
        epoch: counted from 0.
        device: where to compute.
        resize: changes the size of a batch's float images (multi-scale); gets the batch number.
        on_skip: told of the epoch, the images of what is skipped, and why.

    Returns:
        Mean box, objectness and class loss.

    Raises:
        DivergedError: ten batches or ten steps in a row had to be skipped.
    """
    _prepare(state)
    table = _TableRow(f"{epoch + 1}/{schedule.epochs}", device)
    gradients = _Gradients(state, criterion, table, epoch, device, resize, on_skip)
    progress = Progress(batches, schedule.batches_per_epoch, table.text, leave=False)
    for number, batch in enumerate(progress):
        done = epoch * schedule.batches_per_epoch + number
        settings = schedule.at(epoch, number)
        settings.apply(state.optimizer)
        gradients.add(_Numbered(done, batch, done - state.last_step >= settings.accumulate))
    gradients.verify()
    box, objectness, class_ = state.ranks.average(table.losses()).tolist()
    logger.info("%s", table.text_of((box, objectness, class_)))
    return box, objectness, class_


class _TableRow:
    """An epoch on the console: mean losses so far, objects and image size of the last batch."""

    def __init__(self, title: str, device: torch.device) -> None:
        self._title, self._device = title, device
        self._total = torch.zeros(3, device=device)
        self._batches = self._instances = self._size = 0

    def add(self, parts: Tensor, instances: int, size: int) -> None:
        """Count a batch: (3,) losses on the device, how many objects, longer side in pixels."""
        self._total += parts
        self._batches += 1
        self._instances, self._size = instances, size

    def losses(self) -> Tensor:
        """(3,) mean box, objectness and class loss, on the device."""
        return self._total / max(self._batches, 1)

    def text(self) -> str:
        """The row as it is now; reads the device."""
        # The first batches count once the first step is verified.
        return self.text_of(self.losses().tolist() if self._batches else None)

    def text_of(self, losses: Sequence[float] | None) -> str:
        """The row with these losses."""
        return training_row(self._title, self._device, losses, self._instances, self._size)


class _Numbered(NamedTuple):
    """A batch on the host, its number in the run, and whether a step is due after it."""

    done: int
    batch: Batch
    step_due: bool


class _Computed(NamedTuple):
    """What a batch's forward pass leaves on the device: () total and (3,) parts of its loss."""

    total: Tensor
    parts: Tensor
    size: int


class _Statistics:
    """A copy of a network's buffers, made and put back in as few operations as there are dtypes."""

    def __init__(self, model: nn.Module) -> None:
        buffers = list(model.buffers())
        by_dtype = [[b for b in buffers if b.dtype == kind] for kind in {b.dtype for b in buffers}]
        self._pairs = [(group, [buffer.clone() for buffer in group]) for group in by_dtype]

    def keep(self) -> None:
        """Copy the buffers as they are now."""
        for buffers, copies in self._pairs:
            torch._foreach_copy_(copies, buffers)

    def restore(self) -> None:
        """Set the buffers to what they were."""
        for buffers, copies in self._pairs:
            torch._foreach_copy_(buffers, copies)


class _Gradients:
    """Gradients of batches, gathered until an optimizer step is due.

    The host runs ahead of the device. It takes batches to be good until a step is due, then reads
    once whether all their losses and the gradients are finite. If a loss is not, the batches since
    the last step are gone through again, from the norms' statistics of before, with a read after
    each: only those whose loss is not finite are skipped, exactly as if every loss had been read.
    """

    def __init__(
        self,
        state: TrainingState,
        criterion: Criterion,
        table: _TableRow,
        epoch: int,
        device: torch.device,
        resize: Resize | None,
        on_skip: OnSkip,
    ) -> None:
        self._state, self._criterion, self._table = state, criterion, table
        self._epoch, self._device, self._resize, self._on_skip = epoch, device, resize, on_skip
        self._unverified: list[tuple[_Numbered, _Computed]] = []
        self._statistics = _Statistics(state.model)  # before the first of these
        self._paths: list[Path] = []  # of batches whose gradients are gathered and good
        self._one_by_one = False  # until the next step

    def add(self, numbered: _Numbered) -> None:
        """Gather a batch's gradients; take an optimizer step after it if one is due."""
        if self._one_by_one:
            self._add_verified(numbered)
            return
        if not self._unverified:
            self._statistics.keep()
        # Until a step is due each process gathers for itself: averaging once is enough.
        with self._state.ranks.averaging(self._state.parallel, when=numbered.step_due):
            loss, size = self._forward(numbered)
            _backward(self._state, loss)
        self._unverified.append((numbered, _Computed(loss.total.detach(), loss.parts(), size)))
        if numbered.step_due:
            self.verify()

    def verify(self) -> None:
        """Read whether the batches since the last step were good; take a step that is due."""
        if not self._unverified:
            return
        state, unverified, self._unverified = self._state, self._unverified, []
        losses_finite = torch.isfinite(torch.stack([each.total for _, each in unverified])).all()
        last, _ = unverified[-1]
        conditions = [losses_finite, *([_gradients_finite(state)] if last.step_due else [])]
        good, *gradients_good = state.ranks.all_true(torch.stack(conditions))
        if not good:
            self._repeat([numbered for numbered, _ in unverified])
            return
        state.bad_losses = 0
        for numbered, computed in unverified:
            self._accept(numbered, computed.parts, computed.size)
        if last.step_due:
            self._step(last.done, finite=gradients_good[0])

    def _repeat(self, batches: Sequence[_Numbered]) -> None:
        """Go through batches again, reading after each, from where the first of them began."""
        state = self._state
        state.precision.forget_unscaling()
        state.optimizer.zero_grad()
        self._statistics.restore()
        self._one_by_one = True
        for numbered in batches:
            self._add_verified(numbered)

    def _add_verified(self, numbered: _Numbered) -> None:
        """Gather a batch's gradients if its loss is finite, which is read before anything else."""
        state = self._state
        loss, size = self._forward(numbered)
        finite = torch.isfinite(loss.total)
        if not all(state.ranks.all_true(finite[None])):
            _restore_norms(state)
            state.bad_losses += 1
            self._skip(
                () if finite else numbered.batch.paths, "loss is not finite", state.bad_losses
            )
            return
        state.bad_losses = 0
        _backward(state, loss)
        self._accept(numbered, loss.parts(), size)
        if numbered.step_due:
            self._step(numbered.done, finite=bool(_gradients_finite(state)))

    def _accept(self, numbered: _Numbered, parts: Tensor, size: int) -> None:
        self._paths += numbered.batch.paths
        self._table.add(parts, len(numbered.batch.class_ids), size)

    def _step(self, done: int, *, finite: bool) -> None:
        """The step that is due after batch `done`."""
        self._state.last_step, self._one_by_one = done, False
        if not _step(self._state, finite=finite):
            self._skip(self._paths, "gradients are not finite", self._state.bad_steps)
        self._paths = []

    def _forward(self, numbered: _Numbered) -> tuple[Loss, int]:
        """A batch's loss, and the longer side of its images in pixels."""
        batch = _on_device(self._state, numbered.batch, self._device)
        if self._resize is not None:
            batch = _resized(batch, self._resize, numbered.done)
        return _loss(self._state, self._criterion, batch), max(batch.images.shape[2:])

    def _skip(self, paths: Sequence[Path], reason: str, in_row: int) -> None:
        """Count what is skipped, name its images, and give up after too many in a row."""
        state = self._state
        state.skipped_steps += 1
        skipped = [path for part in state.ranks.gather(list(paths)) for path in part]
        self._on_skip(self._epoch, skipped, reason)
        names = ", ".join(path.name for path in skipped[:4])
        logger.warning("%s: skipped (%d so far; %s, ...)", reason, state.skipped_steps, names)
        if in_row >= MAX_SKIPPED_IN_ROW:
            raise DivergedError(
                f"{in_row} in a row were skipped ({reason}): training has diverged; try --amp off, "
                "a smaller lr0 in --hyp, or other --weights, and look at the images that were "
                "skipped"
            )


def train_batch(
    state: TrainingState, criterion: Criterion, batch: Batch, device: torch.device
) -> None:
    """One batch forward and backward, and a step."""
    _prepare(state)
    _backward(state, _loss(state, criterion, _on_device(state, batch, device)))
    _step(state, finite=bool(_gradients_finite(state)))


def _prepare(state: TrainingState) -> None:
    """Train mode, frozen layers aside, and no gradients of an earlier epoch."""
    state.model.train()
    for layer in state.frozen:
        layer.eval()
    state.optimizer.zero_grad()


def _on_device(state: TrainingState, batch: Batch, device: torch.device) -> Batch:
    """A batch with its images on a device, floats from 0 to 1; the labels stay where they are."""
    images = batch.images.to(device, non_blocking=True)
    images = scale_pixel_tensor(images, torch.float32)
    images = images.contiguous(memory_format=state.memory_format)
    return replace(batch, images=images)


def _resized(batch: Batch, resize: Resize, done: int) -> Batch:
    """The batch at another size, its boxes scaled with its images."""
    before, images = batch.images.shape, resize(batch.images, done)
    scale = images.shape[3] / before[3], images.shape[2] / before[2]
    return replace(batch, images=images, boxes=batch.boxes * batch.boxes.new_tensor(scale * 2))


def _loss(state: TrainingState, criterion: Criterion, batch: Batch) -> Loss:
    """Of a batch on its device, in the run's precision."""
    with state.precision.autocast(batch.images.device):
        return criterion(state.parallel(batch.images), batch)


def _backward(state: TrainingState, loss: Loss) -> None:
    torch.autograd.backward(state.precision.scaler.scale(loss.total))


def _gradients_finite(state: TrainingState) -> Tensor:
    """() bool on the device, after unscaling and clipping the gradients."""
    state.precision.scaler.unscale_(state.optimizer)
    return torch.isfinite(clip_gradients(state.model))


def _step(state: TrainingState, *, finite: bool) -> bool:
    """One optimizer step if the clipped gradients are finite; the average follows.

    Returns:
        Whether they were, or their scale (float16) is still being searched for.
    """
    scaler = state.precision.scaler
    if finite:
        state.optimizer.step()  # not through the scaler, which would read what is known already
        state.ema.update(state.model)
        state.bad_steps = 0
    else:
        state.bad_steps += 1
    scaler.update()  # from what unscaling found
    state.optimizer.zero_grad()
    return finite or (scaler.is_enabled() and scaler.get_scale() >= 1)


@torch.no_grad()
def _restore_norms(state: TrainingState) -> None:
    """Undo what the forward pass of a bad batch did to running statistics that are now broken."""
    averages = dict(state.ema.model.named_buffers())
    for name, buffer in state.model.named_buffers():
        if not torch.isfinite(buffer).all():
            buffer.copy_(averages[name])
