"""How many images a training step can take: measured with made-up ones."""

from __future__ import annotations

import copy
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from models.network.detector import Detector
from utils.batches import Batch
from utils.device import (
    Room,
    forget_peak,
    is_out_of_memory,
    memory_budget,
    peak_memory,
)
from utils.engine.batch_search import largest_batch
from utils.engine.criterion import Criterion
from utils.engine.distributed import Ranks
from utils.engine.ema import ModelEMA
from utils.engine.epoch import train_batch
from utils.engine.optim import NOMINAL_BATCH_SIZE, OptimizerConfig
from utils.engine.training_state import StateConfig, start_training
from utils.errors import ConfigError
from utils.logs import counted

logger = logging.getLogger(__name__)
MEASURED = -1  # a batch size
# A batch that is measured leaves so many to an epoch, unless that makes it smaller than usual.
BATCHES_PER_EPOCH, USUAL_BATCH_SIZE = 10, 16
OBJECTS_PER_IMAGE = 30
# Beyond the nominal batch nothing is accumulated, and a CPU gains nothing from larger ones.
MAX_ON_A_GPU, MAX_ON_A_CPU = 1024, NOMINAL_BATCH_SIZE


@dataclass(frozen=True, slots=True)
class MemoryProbe:
    """Measures how many images a training step can take.

    Attributes:
        model: on its device; copies of it are trained, it stays as it is.
        criterion: the loss of one process alone.
        hyp: for the optimizer.
        config: how the network is trained.
        image_size: side of the largest input in pixels.
        ranks: the processes that train together; the first one measures.
    """

    model: Detector
    criterion: Criterion
    hyp: OptimizerConfig
    config: StateConfig
    image_size: int
    ranks: Ranks = field(default_factory=Ranks)

    def resolved_batch_size(self, wanted: int, num_images: int, reserved: int) -> int:
        """The batch size that `--batch-size` asks for: itself, or for -1 what fits into memory.

        Args:
            wanted: as given.
            num_images: of the data set.
            reserved: bytes of this machine's memory that each process's image cache will take.

        Raises:
            ConfigError: no image fits, or memory cannot be measured.
        """
        if wanted != MEASURED:
            return wanted
        found = self.of_all_ranks(largest_useful_batch(num_images), reserved)
        if found < 1:
            raise ConfigError(
                "--batch-size -1: not even one image fits; try a smaller --imgsz or network"
            )
        logger.info("--batch-size %d: fits, as measured", found)
        return found

    def of_all_ranks(self, most: int, reserved: int) -> int:
        """How many images, of all ranks together, fit into the memory of each; 0 if none does.

        Raises:
            ConfigError: memory cannot be measured on this machine.
        """
        count, local = self.ranks.count, self.ranks.local_count
        room = Room(reserved * local, local)
        return count * self.ranks.broadcast(lambda: self.largest_fitting(most // count, room))

    def smaller_batch(self, batch_size: int) -> int:
        """Below a batch size of all ranks that is too large, the largest one that fits.

        Raises:
            ConfigError: memory cannot be measured on this machine.
        """
        count = self.ranks.count
        return count * self.largest_fitting((batch_size - 1) // count, Room())

    def largest_fitting(self, most: int, room: Room) -> int:
        """The largest batch of this process that stays within the memory that is free.

        Args:
            most: images per batch wanted; at least one is tried.
            room: what else needs the memory that is free.

        Returns:
            0 if not even one image fits.

        Raises:
            ConfigError: memory cannot be measured on this machine.
        """
        device = next(self.model.parameters()).device
        budget = memory_budget(device, room)

        def measure(batch_size: int) -> int | None:
            return peak_memory(device, lambda: self._step(batch_size, device))

        measure(1)  # what libraries allocate once is not the batch's
        limit = MAX_ON_A_GPU if device.type == "cuda" else MAX_ON_A_CPU
        found = largest_batch(measure, budget, min(limit, max(most, 1)))
        forget_peak(device)  # the run's own is reported
        return found

    def _step(self, batch_size: int, device: torch.device) -> None:
        """One training step of a copy of the network."""
        # Compiling would take minutes for every trial, and shared norms need the other ranks.
        config = replace(self.config, compile=False, sync_bn=False)
        trained = copy.deepcopy(self.model)
        state = start_training(
            trained, trained.layers, ModelEMA(trained), self.hyp, config, batch_size=batch_size
        )
        # Norms need two values per channel, of which the coarsest map of one image may have one.
        size = max(self.image_size, 2 * self.model.stride)
        batch = made_up_batch(batch_size, size)
        train_batch(state, self.criterion, batch, device)


def largest_useful_batch(num_images: int) -> int:
    """A batch of more of a data set's images would leave too few steps to an epoch."""
    return min(max(num_images // BATCHES_PER_EPOCH, USUAL_BATCH_SIZE), num_images)


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
    """A region in which running out of memory is an error that names the batch that would fit.

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
        except ConfigError:  # nothing measures memory on this machine
            remedy = "try a smaller --batch-size"
        else:
            remedy = (
                f"measured, {fits} fit: --batch-size {fits}"
                if 0 < fits < batch_size
                else "try a smaller --imgsz or network"
            )
        raise ConfigError(
            f"out of memory with {counted(batch_size, 'image')} of {image_size} px; {remedy}"
        ) from None
