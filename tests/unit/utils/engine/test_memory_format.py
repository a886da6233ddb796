"""Which precision and memory format a run has, and what the console says of it."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from utils.engine import training_state
from utils.engine.ema import ModelEMA
from utils.engine.optim import OptimizerConfig
from utils.engine.training_state import (
    StateConfig,
    TrainingState,
    describe_precision,
    gains_by_channels_last,
    start_training,
)
from utils.train_config import TrainConfig

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def processor(monkeypatch: pytest.MonkeyPatch, *, bf16: bool) -> None:
    monkeypatch.setattr(training_state, "_cpu_features", lambda: {"avx512_bf16": bf16})


def started(**settings: object) -> tuple[TrainingState, StateConfig]:
    model = nn.Sequential(nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32))
    config = StateConfig(**settings)
    layers, ema = nn.ModuleList(model), ModelEMA(model)
    return start_training(model, layers, ema, OptimizerConfig(), config, batch_size=4), config


@pytest.mark.parametrize("has_bf16", [False, True])
def test_processors_that_compute_in_bf16_gain_by_channels_last_in_it(monkeypatch, has_bf16):
    processor(monkeypatch, bf16=has_bf16)
    for device, dtype in itertools.product((CPU, GPU), (None, torch.bfloat16, torch.float16)):
        expected = has_bf16 and device == CPU and dtype is torch.bfloat16
        assert gains_by_channels_last(device, dtype) == expected, (device, dtype)


# amp, channels_last, whether the processor has bf16 -> channels last, the line on the console
CASES = [
    ("auto", None, True, True, "mixed bf16, channels last in memory (faster on this device; "
                               "--amp off and --no-channels-last to change it)"),
    ("auto", None, False, False, "float32, channels first in memory"),
    ("auto", False, True, False, "mixed bf16, channels first in memory (faster on this device; "
                                 "--amp off to change it)"),
    ("off", None, True, False, "float32, channels first in memory"),
    ("off", True, False, True, "float32, channels last in memory"),
    ("bf16", None, True, True, "mixed bf16, channels last in memory (faster on this device; "
                               "--no-channels-last to change it)"),
    ("bf16", None, False, False, "mixed bf16, channels first in memory"),
]  # fmt: skip


@pytest.mark.parametrize(("amp", "channels_last", "bf16", "expected", "text"), CASES)
def test_flags_win_and_the_rest_is_chosen(monkeypatch, amp, channels_last, bf16, expected, text):
    processor(monkeypatch, bf16=bf16)
    state, config = started(amp=amp, channels_last=channels_last)
    order = torch.channels_last if expected else torch.contiguous_format
    assert state.channels_last == expected
    for network in (state.model, state.ema.model):
        assert network[0].weight.is_contiguous(memory_format=order)
    assert describe_precision(state, config) == f"Precision: {text}"


def test_the_command_line_leaves_it_open():
    assert StateConfig.of(TrainConfig()) == StateConfig(amp="auto", channels_last=None)
