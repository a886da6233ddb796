"""How many images a training step can take: measured with made-up ones."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from models.network.detector import Detector
from utils.engine.batch_search import largest_batch
from utils.engine.ema import ModelEMA
from utils.engine.epoch import Criterion, train_batch
from utils.engine.optim import NOMINAL_BATCH_SIZE
from utils.engine.training_state import StateConfig, start_training
from utils.errors import ConfigError
from utils.hyperparameters import Hyperparameters
from utils.machine_memory import (
    Room,
    forget_peak,
    is_out_of_memory,
    memory_budget,
    peak_memory,
)
from utils.structures import Batch

OBJECTS_PER_IMAGE = 30
# Beyond the nominal batch nothing is accumulated, and a CPU gains nothing from larger ones.
MAX_ON_A_GPU, MAX_ON_A_CPU = 1024, NOMINAL_BATCH_SIZE


def fitting_batch_size(
    model: Detector,
    criterion: Criterion,
    hyp: Hyperparameters,
    config: StateConfig,
    *,
    image_size: int,
    most: int,
    room: Room | None = None,
) -> int:
    """The largest batch with which a training step stays within the memory that is free.

    Args:
        model: on its device; a copy of it is trained, it stays as it is.
        criterion: the loss.
        hyp: for the optimizer.
        config: how the network is trained.
        image_size: side of the largest input in pixels.
        most: images per batch wanted.
        room: what else needs the memory that is free.

    Returns:
        0 if not even one image fits.

    Raises:
        ConfigError: memory cannot be measured on this machine.
    """
    device = next(model.parameters()).device
    budget = memory_budget(device, room or Room())
    # Compiling would take minutes for every trial, and shared norms need the other ranks.
    config = replace(config, compile=False, sync_bn=False)

    def measure(batch_size: int) -> int | None:
        return peak_memory(device, step_of(batch_size))

    def step_of(batch_size: int) -> Callable[[], None]:
        def step() -> None:
            trained = copy.deepcopy(model)
            state = start_training(
                trained, trained.layers, ModelEMA(trained), hyp, config, device=device
            )
            train_batch(state, criterion, made_up_batch(batch_size, image_size).to(device))

        return step

    measure(1)  # what libraries allocate once is not the batch's
    limit = MAX_ON_A_GPU if device.type == "cuda" else MAX_ON_A_CPU
    found = largest_batch(measure, budget, min(limit, most))
    forget_peak(device)  # the run's own is reported
    return found


def made_up_batch(batch_size: int, image_size: int) -> Batch:
    """Noise with boxes of all sizes, all of class 0."""
    random = torch.Generator().manual_seed(0)
    count = batch_size * OBJECTS_PER_IMAGE
    corners = torch.rand((count, 2, 2), generator=random).sort(dim=1).values * image_size
    shape = (batch_size, 3, image_size, image_size)
    return Batch(
        images=torch.randint(0, 256, shape, dtype=torch.uint8, generator=random),
        image_index=torch.arange(batch_size).repeat_interleave(OBJECTS_PER_IMAGE),
        class_ids=torch.zeros(count, dtype=torch.int64),
        boxes=corners.reshape(-1, 4),
        image_ids=tuple(range(batch_size)),
        letterboxes=(None,) * batch_size,
        paths=(Path(),) * batch_size,
    )


@contextmanager
def out_of_memory_explained(
    fitting: Callable[[], int], *, batch_size: int, image_size: int
) -> Iterator[None]:
    """A region in which running out of memory is said with the batch that would fit.

    Args:
        fitting: measures that batch size.
        batch_size: the one in use.
        image_size: side of the input in pixels.

    Raises:
        ConfigError: the memory did not suffice.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold what filled the memory
        try:
            fits = fitting()
        except ConfigError:  # cannot be measured here
            remedy = "try a smaller --batch-size"
        else:
            remedy = (
                f"measured, {fits} fit: --batch-size {fits}"
                if 0 < fits < batch_size
                else "try a smaller --imgsz or network"
            )
        raise ConfigError(
            f"out of memory with {batch_size} images of {image_size} px; {remedy}"
        ) from None
