"""The training loop on a network of one weight, where every number is known."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from utils.batches import Batch
from utils.engine import epoch as epoch_module
from utils.engine.ema import ModelEMA
from utils.engine.epoch import train_one_epoch
from utils.engine.optim import OptimizerConfig, build_optimizer
from utils.engine.schedule import Schedule
from utils.engine.training_state import Precision, TrainingState
from utils.errors import DivergedError

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
    config = OptimizerConfig(
        lr0=lr0, lrf=1.0, momentum=0.0, warmup_momentum=0.0, warmup_epochs=0.0, warmup_bias_lr=0.1
    )
    return Schedule(config, epochs=1000, batches_per_epoch=num_batches, batch_size=batch_size)


def start(model: nn.Module, **changes) -> TrainingState:
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
        on_skip=lambda *arguments: told.append(arguments),
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


def test_the_row_shows_mean_losses_and_the_last_batch():
    row = epoch_module._TableRow("3/9", CPU)
    assert row.text().split()[2:] == ["-"] * 5  # and not losses of 0
    row.add(torch.tensor([1.0, 2.0, 3.0]), 8, 320)
    row.add(torch.tensor([3.0, 2.0, 1.0]), 4, 352)
    title, memory, *figures = row.text().split()
    assert title == "3/9" and memory.endswith("G")
    assert figures == ["2", "2", "2", "4", "352"]


# Loss scaling, with which float16 trains on a GPU, works on the CPU too.


def scaled(model: nn.Module) -> TrainingState:
    state = start(model)
    state.precision = Precision(None, torch.amp.GradScaler("cpu", init_scale=2.0**16))
    return state


def test_a_scaled_loss_trains_as_one_that_is_not():
    """Scales are powers of two: nothing is rounded."""
    found = []
    for begin in (start, scaled):
        torch.manual_seed(0)
        state = begin(nn.Conv2d(3, 1, 1))
        run(state, mean_output, batches(10, 20, 30))
        found.append([state.model.weight, state.ema.model.weight])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_scale_that_is_too_large_is_searched_for_and_not_counted():
    state = scaled(nn.Conv2d(3, 1, 1))
    run(state, lambda raw, _: Loss(raw.mean() * 1e35), batches(10, 20, 30))  # overflows when scaled
    assert state.precision.scaler.get_scale() == 2.0**13
    assert (state.skipped_steps, state.bad_steps, state.ema.updates) == (0, 3, 0)


def test_a_bad_loss_leaves_the_scale_as_it_is():
    state = scaled(nn.Conv2d(3, 1, 1))

    def bad_once(raw, batch):
        return Loss(raw.mean() * (torch.nan if batch.paths[0].stem == "20" else 1))

    run(state, bad_once, batches(10, 20, 30))
    assert state.precision.scaler.get_scale() == 2.0**16
    assert (state.skipped_steps, state.ema.updates) == (1, 2)


# Reading from the device makes the host wait for it. On the CPU the reads can be counted.


class ReadCounter(TorchFunctionMode):
    """Counts the calls that a GPU would have to be waited for."""

    READS = frozenset(
        ("item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__float__", "__int__",
         "__index__", "is_nonzero", "equal", "masked_select")
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        name = getattr(function, "__name__", "")
        if name in self.READS and isinstance(arguments[0], torch.Tensor):
            self.reads.append(name)
        return function(*arguments, **(keywords or {}))


def reads_of_an_epoch(state, images, batch_size: int) -> int:
    with ReadCounter() as counter:
        run(state, mean_output, images, batch_size=batch_size)
    return len(counter.reads)


@pytest.mark.parametrize(("batch_size", "steps"), [(64, 8), (16, 2), (4, 0)])
def test_the_device_is_read_once_per_step_and_a_few_times_per_epoch(batch_size, steps):
    """Twice for the lines of an epoch, once for batches that are too few for another step."""
    state = start(nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)), last_step=500 * 8 - 1)
    reads = reads_of_an_epoch(state, batches(*range(8)), batch_size)
    assert state.ema.updates == steps
    assert steps <= reads <= steps + 3


@pytest.mark.parametrize(("level", "lines"), [(logging.WARNING, 0), (logging.INFO, 8 - 3)])
def test_each_line_of_progress_reads_once(monkeypatch, caplog, level, lines):
    """But for those before the first of the two steps, which have nothing to read yet."""
    monkeypatch.setattr("utils.logs.PLAIN_INTERVAL_SECONDS", 0.0)
    state = start(nn.Conv2d(3, 2, 1), last_step=500 * 8 - 1)
    with caplog.at_level(level, logger="utils.logs"):
        reads = reads_of_an_epoch(state, batches(*range(8)), batch_size=16)
    assert 2 + lines <= reads <= 2 + lines + 3


def test_a_read_is_counted():
    with ReadCounter() as counter:
        one = torch.ones(())
        assert one.item() + float(one) + one.tolist() == 3 and bool(one)
    assert counter.reads == ["item", "__float__", "tolist", "__bool__"]


def read_every_loss(state, criterion, images, batch_size: int) -> None:
    """The epoch as it would be if every loss were read: what the loop must be equal to."""
    plan = schedule(len(images), batch_size=batch_size)
    state.model.train()
    state.optimizer.zero_grad()
    for number, batch in enumerate(images):
        done, settings = 500 * len(images) + number, plan.at(500, number)
        settings.apply(state.optimizer)
        loss = criterion(state.model(batch.images.float() / 255), batch).total
        if not torch.isfinite(loss):
            averages = dict(state.ema.model.named_buffers())
            for name, buffer in state.model.named_buffers():
                if not torch.isfinite(buffer).all():
                    buffer.data.copy_(averages[name])
            continue
        loss.backward()
        if done - state.last_step >= settings.accumulate:
            state.last_step = done
            norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), 10.0)
            if torch.isfinite(norm):
                state.optimizer.step()
                state.ema.update(state.model)
            state.optimizer.zero_grad()


@pytest.mark.parametrize("batch_size", [64, 32, 16])
@pytest.mark.parametrize("seed", range(12))
def test_skipping_is_as_if_every_loss_had_been_read(seed, batch_size):
    """Good batches, infinite losses, and finite ones with infinite gradients, in random order."""
    rng = np.random.default_rng(seed)
    kinds = dict(
        enumerate(rng.choice(["good", "bad", "steep", "broken"], 13, p=[0.6, 0.2, 0.1, 0.1]))
    )

    def criterion(raw, batch):
        kind = kinds[int(batch.paths[0].stem)]
        if kind == "steep":  # sqrt has an infinite slope at 0
            return Loss((raw - raw.detach()).abs().sum().sqrt())
        return Loss((raw**2).mean() * (torch.inf if kind == "bad" else 1))

    def broken(module, inputs, output):
        """Ruins the statistics of the norm that follows."""
        kind = kinds[round(float(inputs[0].max()) * 255)]
        return output * (torch.inf if kind == "broken" else 1)

    def trained(train) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
        model[0].register_forward_hook(broken)
        state = start(model, last_step=500 * 13 - 1)
        train(state, criterion, batches(*range(13)), batch_size=batch_size)
        ema = {f"ema.{name}": each for name, each in state.ema.model.state_dict().items()}
        count = {"updates": torch.tensor(state.ema.updates), "last": torch.tensor(state.last_step)}
        return {**model.state_dict(), **ema, **count}

    found, expected = trained(run), trained(read_every_loss)
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    assert all(torch.isfinite(each).all() for each in found.values())
