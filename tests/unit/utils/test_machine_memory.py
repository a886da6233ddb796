"""Memory is measured: what is asked for shows up, and running out of it is told apart."""

from __future__ import annotations

import sys

import pytest
import torch

from utils.errors import ConfigError
from utils.machine_memory import free_memory, is_out_of_memory, memory_budget, peak_memory

CPU = torch.device("cpu")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux
def test_the_peak_of_an_action_is_seen_and_forgotten():
    def take(megabytes: int) -> int:
        used = peak_memory(CPU, lambda: torch.ones(megabytes * 250_000).sum())
        assert used is not None
        return used

    small, large, small_again = take(1), take(300), take(1)

    assert 250e6 < large - small < 400e6
    assert abs(small_again - small) < 50e6


@linux
def test_what_is_free():
    assert 1e8 < free_memory() < 1e14
    assert memory_budget(CPU) > 0.8 * free_memory()


@linux
def test_running_out_of_memory_is_no_number():
    assert peak_memory(CPU, lambda: torch.empty(10**15)) is None


def test_other_errors_stay_errors():
    def broken() -> None:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        peak_memory(CPU, broken)
    assert not is_out_of_memory(RuntimeError("something else"))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))


def test_where_memory_cannot_be_measured():
    with pytest.raises(ConfigError) as caught:
        memory_budget(torch.device("mps"))
    assert str(caught.value) == (
        "--batch-size -1: memory can be measured on NVIDIA GPUs and on Linux only; give a number"
    )
