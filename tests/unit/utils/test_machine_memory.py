"""Memory is measured: what is asked for shows up, and running out of it is told apart."""

from __future__ import annotations

import sys

import pytest
import torch

from utils.device import (
    Room,
    is_out_of_memory,
    memory_budget,
    peak_memory,
)
from utils.errors import ConfigError
from utils.machine import _free_in_groups, free_memory

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
    assert memory_budget(CPU, Room()) > 0.7 * free_memory()
    assert memory_budget(CPU, Room(sharers=4)) < 0.6 * memory_budget(CPU, Room())
    assert memory_budget(CPU, Room(reserved=10**15)) < 0.6 * memory_budget(CPU, Room())


def test_limits_of_control_groups(tmp_path):
    """Version 2, where an outer group allows less, and version 1; cached files do not count."""
    inner = tmp_path / "job" / "step"
    (tmp_path / "memory" / "slurm").mkdir(parents=True)
    inner.mkdir(parents=True)
    for folder, limit, used in ((inner, "max", 10), (inner.parent, "900", 500)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text("anon 300\ninactive_file 200\n")
    first = tmp_path / "memory" / "slurm"
    (first / "memory.limit_in_bytes").write_text("700\n")
    (first / "memory.usage_in_bytes").write_text("100\n")
    (first / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 50\n")

    lines = ["5:cpu,cpuacct:/x", "4:memory:/slurm", "0::/job/step"]

    assert list(_free_in_groups(lines, tmp_path)) == [700 - 100 + 50, 900 - 500 + 200]
    assert list(_free_in_groups([], tmp_path)) == []


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
        memory_budget(torch.device("mps"), Room())
    assert str(caught.value) == (
        "--batch-size -1: memory can be measured on NVIDIA GPUs and on Linux only; give a number"
    )
