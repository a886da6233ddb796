"""A step of a compiled network, or of one with channels last, is the step of the plain one."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.losses.loss import DetectionLoss, LossConfig
from models.memory_probe import made_up_batch
from models.network.box_coder import BoxCoder
from models.network.detector import build_model
from tests.model_builders import tiny_spec
from utils.engine import training_state
from utils.engine.ema import ModelEMA
from utils.engine.epoch import train_batch
from utils.engine.optim import OptimizerConfig
from utils.engine.training_state import MIN_CHANNELS_LAST, StateConfig, start_training
from utils.errors import ConfigError

ROOT = Path(__file__).parents[2]
CPU, SIDE = torch.device("cpu"), 64


def after_a_step(model: torch.nn.Module, **settings: bool) -> dict[str, torch.Tensor]:
    model = copy.deepcopy(model)
    ema, hyp, config = ModelEMA(model), OptimizerConfig(), StateConfig(**settings)
    state = start_training(model, model.layers, ema, hyp, config, batch_size=4)
    criterion = DetectionLoss(BoxCoder.of(model), 3, SIDE, LossConfig())
    train_batch(state, criterion, made_up_batch(4, SIDE), CPU)
    kernels = [p for p in model.parameters()
               if p.ndim == 4 and p.shape[1] >= MIN_CHANNELS_LAST and p.shape[2] > 1]  # fmt: skip
    last = settings.get("channels_last", False)
    wanted = torch.channels_last if last else torch.contiguous_format
    assert kernels and all(kernel.is_contiguous(memory_format=wanted) for kernel in kernels)
    assert (model._compiled_call_impl is not None) == settings.get("compile", False)
    return model.state_dict()


def assert_same_step(family: str, **settings: bool) -> None:
    torch.manual_seed(0)
    model = build_model(tiny_spec(rep_block=family))
    before, plain = model.state_dict(), after_a_step(model)
    other = after_a_step(model, **settings)
    assert list(other) == list(plain)
    moved = max(float((plain[name] - before[name]).abs().max()) for name in plain)
    assert moved > 1e-3
    for name, tensor in plain.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=2e-3 * moved)


@pytest.mark.parametrize("family", ["RepVGG", "OREPA", "DBB"])
def test_channels_last(family):
    assert_same_step(family, channels_last=True)


STEPS_WITH_A_BRANCHED_STEM = """
import torch
from models.network.detector import build_model
from models.network.model_spec import ModelSpec
from utils.engine.training_state import order_in_memory

model = build_model(ModelSpec.from_file("repyolov5n-npu.yaml"))
order = order_in_memory(model, torch.device("cpu"), channels_last=True)
for _ in range(6):
    images = torch.rand(4, 3, 416, 416).contiguous(memory_format=order)
    model.layers[0](images).square().mean().backward()
"""


def test_channels_last_with_a_branched_stem_keeps_to_its_memory():
    """In a process of its own: it would be killed. glibc's checks find what does not kill it."""
    environment = {**os.environ, "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165"}
    done = subprocess.run([sys.executable, "-c", STEPS_WITH_A_BRANCHED_STEM], cwd=ROOT,
                          env=environment, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own, while it compiles
@pytest.mark.parametrize("family", ["RepVGG", "OREPA"])
def test_compiled(family):
    assert_same_step(family, compile=True)


def test_without_a_compiler_it_is_refused(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError) as caught:
        training_state.check_compiler()
    assert str(caught.value) == (
        "--compile: needs a C++ compiler, and there is no no-such-compiler; install one, or leave "
        "--compile out"
    )
