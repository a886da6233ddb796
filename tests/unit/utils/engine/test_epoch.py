"""The training loop on a network of one weight, where every number is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from utils.engine import epoch as epoch_module
from utils.engine.ema import ModelEMA
from utils.engine.epoch import train_one_epoch
from utils.engine.optim import build_optimizer
from utils.engine.precision import Precision
from utils.engine.schedule import Schedule
from utils.engine.training_state import TrainingState
from utils.errors import DivergedError
from utils.structures import Batch

CPU = torch.device("cpu")
FLOAT32 = Precision.choose("off", CPU)


@dataclass(frozen=True)
class Loss:
    total: Tensor

    def parts(self) -> Tensor:
        return self.total.detach().expand(3)


def batches(*brightness: int) -> list[Batch]:
    nothing = torch.zeros(0, dtype=torch.int64)
    return [
        Batch(
            images=torch.full((1, 3, 32, 32), value, dtype=torch.uint8),
            image_index=nothing,
            class_ids=nothing,
            boxes=torch.zeros(0, 4),
            image_ids=(0,),
            letterboxes=(None,),
            paths=(Path(f"{value}.jpg"),),
        )
        for value in brightness
    ]


def schedule(num_batches: int, batch_size: int = 64, lr0: float = 0.1) -> Schedule:
    return Schedule(
        epochs=1000, batches_per_epoch=num_batches, batch_size=batch_size, lr0=lr0, lrf=1.0,
        momentum=0.0, warmup_momentum=0.0, warmup_epochs=0.0, warmup_bias_lr=0.1,
    )  # fmt: skip


def start(model: nn.Module, **changes) -> TrainingState[nn.Module]:
    optimizer = build_optimizer(model, "SGD", lr=0.1, momentum=0.9, weight_decay=0.0)
    return TrainingState(model, model, ModelEMA(model), optimizer, FLOAT32, **changes)


def run(state, criterion, images, **changes) -> tuple[float, float, float]:
    settings = {"batch_size": 64, **changes}
    return train_one_epoch(
        state, criterion, images, schedule(len(images), **settings), 500, device=CPU
    )


def mean_output(raw: Tensor, _batch: Batch) -> Loss:
    return Loss(raw.mean())


def test_images_come_as_floats_from_0_to_1_and_losses_are_averaged():
    model = nn.Conv2d(3, 1, 1)
    nn.init.constant_(model.weight, 1 / 3)
    nn.init.zeros_(model.bias)
    losses = run(start(model), mean_output, batches(0, 255), lr0=0.0)
    assert losses == pytest.approx((0.5, 0.5, 0.5))


def test_a_batch_of_the_nominal_size_is_one_step_and_one_update_of_the_average():
    state = start(nn.Conv2d(3, 1, 1))
    run(state, mean_output, batches(10, 20, 30))
    assert state.ema.updates == 3


def test_small_batches_are_gathered_before_a_step():
    state = start(nn.Conv2d(3, 1, 1), last_step=499 * 8 + 7)  # 500 epochs of 8 batches before
    run(state, mean_output, batches(*range(8)), batch_size=16)
    assert state.ema.updates == 2  # after the 4th and the 8th


def test_a_loss_that_is_not_a_number_is_skipped_counted_and_named(caplog):
    model = nn.Conv2d(3, 1, 1)
    state = start(model)
    before = model.weight.detach().clone()
    run(state, lambda raw, batch: Loss(raw.mean() * torch.nan), batches(7, 9))
    assert state.skipped_steps == 2
    assert torch.equal(model.weight, before)
    assert "loss is not finite: skipped (1 so far; 7.jpg" in caplog.text


def test_gradients_that_are_not_numbers_never_reach_the_weights(caplog):
    model = nn.Conv2d(3, 1, 1)
    state = start(model)
    before = model.weight.detach().clone()
    # sqrt has a finite value and an infinite slope at 0
    run(state, lambda raw, batch: Loss((raw - raw.detach()).abs().sum().sqrt()), batches(5))
    assert state.skipped_steps == 1 and state.ema.updates == 0
    assert torch.equal(model.weight, before)
    assert "gradients are not finite: skipped (1 so far; 5.jpg" in caplog.text


def test_who_is_told_of_skipped_batches():
    state, told = start(nn.Conv2d(3, 1, 1)), []

    def bad_once(raw, batch):
        return Loss(raw.mean() * (torch.nan if batch.paths[0].stem == "7" else 1))

    train_one_epoch(
        state, bad_once, batches(5, 7, 9), schedule(3), 500, device=CPU,
        on_skip=lambda *words: told.append(words),
    )  # fmt: skip
    assert told == [(500, [Path("7.jpg")], "loss is not finite")]
    assert (state.skipped_steps, state.bad_losses) == (1, 0)  # a good batch followed


def test_good_batches_beside_a_bad_one_still_count():
    """Four batches to a step, one of them bad: the step is that of the other three."""

    def weight_after(losses):
        torch.manual_seed(0)
        model = nn.Conv2d(3, 1, 1)
        state = start(model, last_step=500 * 4 - 1)
        values = dict(zip((10, 20, 30, 40), losses, strict=True))

        def loss(raw, batch):
            return Loss(raw.mean() * values[int(batch.paths[0].stem)])

        run(state, loss, batches(10, 20, 30, 40), batch_size=16)
        assert state.ema.updates == 1
        return model.weight.detach()

    assert torch.equal(weight_after((1, 1, torch.nan, 1)), weight_after((1, 1, 0, 1)))


def test_a_bad_batch_leaves_no_trace_in_the_statistics_of_norms():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    state = start(model)

    def infinite_once(raw, batch):
        return Loss(raw.mean())

    model[0].register_forward_hook(
        lambda module, inputs, output: output * (torch.inf if inputs[0].max() > 0.9 else 1)
    )
    run(state, infinite_once, batches(10, 255, 20))
    assert state.skipped_steps == 1
    assert all(torch.isfinite(buffer).all() for buffer in model.buffers())
    assert all(torch.isfinite(buffer).all() for buffer in state.ema.model.buffers())


def test_ten_bad_steps_in_a_row_end_the_run():
    state = start(nn.Conv2d(3, 1, 1))
    with pytest.raises(DivergedError, match=r"10 in a row were skipped \(gradients are not finite"):
        run(
            state, lambda raw, _: Loss((raw - raw.detach()).abs().sum().sqrt()), batches(*range(12))
        )
    assert state.bad_steps == 10


def test_ten_skipped_batches_in_a_row_end_the_run():
    state = start(nn.Conv2d(3, 1, 1))
    with pytest.raises(DivergedError, match=r"10 in a row were skipped .* try --amp off"):
        run(state, lambda raw, batch: Loss(raw.mean() * torch.nan), batches(*range(12)))
    assert state.skipped_steps == 10


def test_frozen_layers_stay_in_eval_mode():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    state = start(model, frozen=(model[1],))
    run(state, mean_output, batches(1, 2))
    assert model[0].training and not model[1].training
    assert torch.equal(model[1].running_mean, torch.zeros(2))


def test_an_epoch_without_batches():
    assert run(start(nn.Conv2d(3, 1, 1)), mean_output, []) == (0.0, 0.0, 0.0)


def test_progress_counts_images(monkeypatch):
    ticks = iter([0.0, 2.0])
    monkeypatch.setattr(epoch_module.time, "monotonic", lambda: next(ticks))
    means = epoch_module._RunningMeans(CPU)
    means.add(torch.tensor([1.0, 2.0, 3.0]), 8)
    means.add(torch.tensor([3.0, 2.0, 1.0]), 4)
    assert means.message().startswith("box 2.0000  obj 2.0000  cls 2.0000  6.0 images/s  ")
