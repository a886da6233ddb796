"""How many images fit is measured with real steps on a copy of the network."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch

from models import memory_probe
from models.losses.loss import DetectionLoss, LossConfig
from models.memory_probe import (
    MemoryProbe,
    largest_useful_batch,
    made_up_batch,
    out_of_memory_explained,
)
from models.network.box_coder import BoxCoder
from models.network.detector import build_model
from tests.model_builders import tiny_spec
from utils.device import Room, memory_budget
from utils.engine.distributed import Ranks
from utils.engine.optim import OptimizerConfig
from utils.engine.training_state import StateConfig
from utils.errors import ConfigError

SIDE = 320


def probe(
    model: torch.nn.Module, image_size: int = SIDE, ranks: Ranks | None = None
) -> MemoryProbe:
    criterion = DetectionLoss(BoxCoder.of(model), 3, image_size, LossConfig())
    config = StateConfig(sync_bn=True, compile=True)  # of no matter here
    return MemoryProbe(model, criterion, OptimizerConfig(), config, image_size, ranks or Ranks())


def found(most: int) -> tuple[int, torch.nn.Module, torch.nn.Module]:
    model = build_model(tiny_spec())
    before = copy.deepcopy(model)
    return probe(model).largest_fitting(most, Room()), before, model


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_tight_budget_allows_few_images_and_the_network_stays_as_it_is(monkeypatch):
    budget = memory_budget(torch.device("cpu"), Room())
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    few, before, after = found(most=8)
    assert few == 8  # the memory of this machine is no matter

    monkeypatch.setattr(memory_probe, "memory_budget", lambda *_: resident + 250_000_000)
    tight, _, _ = found(most=64)

    assert 0 < tight < 64
    assert budget > resident + 250_000_000
    for (name, tensor), (_, other) in zip(
        before.state_dict().items(), after.state_dict().items(), strict=True
    ):
        assert torch.equal(tensor, other), name
    assert all(parameter.grad is None for parameter in after.parameters())


@pytest.mark.parametrize("local_count", [1, 2])
def test_what_else_needs_the_memory(monkeypatch, local_count):
    """An image cache in each process of this machine, and the other processes' steps."""
    seen = []
    monkeypatch.setattr(
        MemoryProbe, "largest_fitting", lambda self, most, room: seen.append((most, room)) or 5
    )
    ranks = Ranks(0, 0, 1, local_count)
    assert probe(build_model(tiny_spec()), ranks=ranks).resolved_batch_size(-1, 400, 7) == 5
    assert seen == [(40, Room(7 * local_count, local_count))]


def test_a_batch_size_that_is_given_is_not_measured():
    assert probe(build_model(tiny_spec())).resolved_batch_size(24, 400, 0) == 24


@pytest.mark.parametrize(("images", "most"), [(1, 1), (13, 13), (50, 16), (160, 16), (1000, 100)])
def test_a_measured_batch_leaves_steps_to_an_epoch(images, most):
    assert largest_useful_batch(images) == most


def test_made_up_images_are_a_batch():
    batch = made_up_batch(3, 64)

    assert batch.images.shape == (3, 3, 64, 64)
    assert (batch.boxes[:, 2:] >= batch.boxes[:, :2]).all()
    assert batch.boxes.min() >= 0 and batch.boxes.max() <= 64
    assert batch.image_index.tolist() == sorted(batch.image_index.tolist())


@pytest.mark.parametrize(
    ("fits", "remedy"),
    [
        (5, "measured, 5 fit: --batch-size 5"),
        (0, "try a smaller --imgsz or network"),
        (16, "try a smaller --imgsz or network"),  # other programs have taken the memory meanwhile
    ],
)
def test_out_of_memory_is_said_with_what_fits(fits, remedy):
    with (
        pytest.raises(ConfigError) as caught,
        out_of_memory_explained(lambda: fits, batch_size=16, image_size=640),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    assert str(caught.value) == f"out of memory with 16 images of 640 px; {remedy}"


def test_other_errors_pass():
    with (
        pytest.raises(RuntimeError, match="shape"),
        out_of_memory_explained(lambda: 1, batch_size=16, image_size=640),
    ):
        raise RuntimeError("shape")


def test_where_nothing_can_be_measured_a_smaller_batch_is_advised():
    def fitting() -> int:
        raise ConfigError("--batch-size -1: memory can be measured on NVIDIA GPUs only")

    with (
        pytest.raises(ConfigError) as caught,
        out_of_memory_explained(fitting, batch_size=16, image_size=640),
    ):
        raise torch.OutOfMemoryError("out of memory")
    assert str(caught.value) == (
        "out of memory with 16 images of 640 px; try a smaller --batch-size"
    )
