"""The training loop of train.py on made-up images, to be timed; and what memory it takes."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Sequence

import torch

from experiments.block_costs import Setting
from models.losses.loss import DetectionLoss, LossConfig
from models.memory_probe import made_up_batch
from models.network.box_coder import BoxCoder
from utils.batches import Batch
from utils.device import forget_peak, peak_memory_mb
from utils.engine.ema import ModelEMA
from utils.engine.epoch import train_one_epoch
from utils.engine.optim import OptimizerConfig
from utils.engine.schedule import Schedule
from utils.engine.training_state import StateConfig, start_training
from utils.letterbox import scale_pixel_tensor
from utils.machine import status_bytes

MAX_SKIPPED = 10  # calls whose steps are all skipped while the scale of a float16 loss is found


class TimedTraining:
    """Trains a randomly initialized network for as many batches as asked for.

    Each batch begins as uint8 images in the memory of the host and ends with an optimizer step,
    whatever its size. The learning rate is that of the first batches of a run.

    Attributes:
        state: of the training.
        criterion: the loss.
    """

    def __init__(
        self, family: str, setting: Setting, how: StateConfig, batches: Sequence[Batch]
    ) -> None:
        """Build the network and all that train.py builds.

        Args:
            family: of blocks, one of `block_costs.FAMILIES`.
            setting: network, sizes and device.
            how: precision, memory format, compiled or not.
            batches: that a call trains on.
        """
        self._setting, self._batches = setting, batches
        model = setting.build(family).to(setting.device)
        # From rates of 0, so that a hundred steps on the same images change next to nothing.
        self._hyp = OptimizerConfig(nbs=setting.batch_size, warmup_bias_lr=0.0)
        ema = ModelEMA[torch.nn.Module](model)
        self.state = start_training(
            model, model.layers, ema, self._hyp, how, batch_size=setting.batch_size
        )
        self.criterion = DetectionLoss(
            BoxCoder.of(model), model.spec.num_classes, setting.image_size, LossConfig()
        )

    def __call__(self) -> None:
        """Train on the batches."""
        self.train(self._batches, len(self._batches))

    def train(self, batches: Iterable[Batch], count: int) -> None:
        """Train on the first batches of a run.

        Args:
            batches: of uint8 images on the host.
            count: how many they are.
        """
        self.state.last_step = -1
        schedule = Schedule(self._hyp, 1, count, self._setting.batch_size)
        train_one_epoch(
            self.state, self.criterion, batches, schedule, 0, device=self._setting.device
        )


def host_batch(setting: Setting) -> Batch:
    """The made-up batch; for a GPU in page-locked memory, as the loader hands it out."""
    batch = made_up_batch(setting.batch_size, setting.image_size)
    return batch.pin_memory() if setting.device.type == "cuda" else batch


def used_mb(device: torch.device) -> float:
    """MB in use now: of tensors on a GPU, else of this process (0 where nothing tells)."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 1e6
    return (status_bytes("VmRSS") or 0) / 1e6


def training_peak_mb(
    family: str, setting: Setting, how: StateConfig, batches: Sequence[Batch]
) -> float:
    """MB that the training of a family on some batches takes at the most.

    Weights, gradients, momentum and average included; of the GPU's memory, what tensors take.
    """
    gc.collect()
    forget_peak(setting.device)
    before = used_mb(setting.device)
    training = TimedTraining(family, setting, how, batches)
    for _ in range(MAX_SKIPPED):
        training()
        if training.state.optimizer.state:  # the scale of a float16 loss is found
            break
    training()
    peak = peak_memory_mb(setting.device) or 0.0
    return peak - before


def loss_call(training: TimedTraining, batches: Sequence[Batch]) -> Callable[[], None]:
    """A call that computes the loss of each batch, and its gradient.

    The maps are those that the network makes of the first batch once.
    """
    state = training.state
    device = next(state.model.parameters()).device
    images = scale_pixel_tensor(batches[0].images.to(device), torch.float32)
    with torch.no_grad(), state.precision.autocast(device):
        maps = state.model(images.contiguous(memory_format=state.memory_format))
    raw_predictions = [raw.clone().requires_grad_() for raw in maps]

    def call() -> None:
        for batch in batches:
            with state.precision.autocast(device):
                loss = training.criterion(raw_predictions, batch)
            torch.autograd.backward(state.precision.scaler.scale(loss.total))
            for raw in raw_predictions:
                raw.grad = None

    return call
