"""A training state that is saved and taken up goes on to the last bit, in every precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.losses.loss import DetectionLoss, LossConfig
from models.memory_probe import made_up_batch
from models.network.box_coder import BoxCoder
from models.network.detector import Detector, build_model
from tests.model_builders import tiny_spec
from utils.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from utils.engine.ema import ModelEMA
from utils.engine.epoch import train_batch
from utils.engine.optim import OptimizerConfig
from utils.engine.resume import (
    ResumedRun,
    check_resumable,
    continue_from,
    progress_of,
    read_resumed_run,
)
from utils.engine.training_state import StateConfig, TrainingState, start_training
from utils.errors import ConfigError, UserError
from utils.train_config import TrainConfig

CPU, SIDE = torch.device("cpu"), 64


def fresh() -> Detector:
    torch.manual_seed(0)
    return build_model(tiny_spec(rep_block="RepVGG"))


def started(model: Detector, config: StateConfig) -> TrainingState:
    return start_training(
        model, model.layers, ModelEMA(model), OptimizerConfig(), config, batch_size=4
    )


def train(state: TrainingState, steps: int) -> None:
    criterion = DetectionLoss(BoxCoder.of(state.model), 3, SIDE, LossConfig())
    for _ in range(steps):
        train_batch(state, criterion, made_up_batch(4, SIDE), CPU)


def everything(state: TrainingState) -> list[torch.Tensor]:
    moments = [value for values in state.optimizer.state.values() for value in values.values()]
    return [*state.model.state_dict().values(), *state.ema.model.state_dict().values(), *moments]


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW"])
@pytest.mark.parametrize(("amp", "channels_last"), [("off", False), ("off", True), ("bf16", True)])
def test_to_the_last_bit(tmp_path, optimizer, amp, channels_last):
    config = StateConfig(optimizer=optimizer, amp=amp, channels_last=channels_last)
    whole, first = started(fresh(), config), started(fresh(), config)
    train(whole, 4)

    train(first, 2)
    path, model = tmp_path / "last.pt", first.model
    saved = Checkpoint("train", model.spec.to_yaml(), ("a", "b", "c"), model.state_dict(), SIDE,
                       ema_weights=first.ema.model.state_dict(),
                       training=progress_of(first, 0, 2))  # fmt: skip
    save_checkpoint(path, saved)
    checkpoint = load_checkpoint(path)
    again = fresh()
    again.load_state_dict(checkpoint.weights)
    resumed = started(again, config)
    run = ResumedRun(Path(path), checkpoint, checkpoint.training or {}, TrainConfig(), {})
    continue_from(run, resumed, 2)
    train(resumed, 2)

    found, expected = everything(resumed), everything(whole)
    assert len(found) == len(expected) > 100
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("resume", "message"),
    [(True, "--resume True: must be text, is of type bool"), ("gone.pt", "gone.pt: no such weigh")],
)
def test_what_is_no_run_from_python(tmp_path, resume, message):
    with pytest.raises(UserError) as caught:
        read_resumed_run(TrainConfig(resume=resume, project=tmp_path))  # a Path, which is right
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ({}, {"freeze": (3,)}, "--freeze 3: the run in exp has 0; with"),
        ({"freeze": (1, 2)}, {"freeze": (1, 2, 3)}, "--freeze 1 2 3: the run in exp has 1 2; with"),
        ({}, {"strict": True}, "--strict: the run in exp was started without; with"),
        ({"rect": True}, {}, "--no-rect: the run in exp has it; with"),
        ({"optimizer": "Adam"}, {}, "--optimizer SGD: the run in exp has Adam; with"),
    ],
)
def test_changed_settings_are_said_as_flags(before, now, message):
    checkpoint = Checkpoint("train", tiny_spec().to_yaml(), ("a", "b"), {}, SIDE)
    last = Path("exp", "weights", "last.pt")
    resumed = ResumedRun(last, checkpoint, {}, TrainConfig(**before), {})
    with pytest.raises(ConfigError) as caught:
        check_resumable(resumed, TrainConfig(**now), ("a", "b"))
    assert str(caught.value).startswith(message)
