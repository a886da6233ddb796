from __future__ import annotations

import pytest
import torch

from utils.device import choose_device, describe_device, peak_memory_mb
from utils.errors import ConfigError


@pytest.fixture
def gpus(monkeypatch):
    """Pretends that the machine has this many GPUs and no MPS."""

    def pretend(count):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    return pretend


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [
        ("", 0, "cpu"),
        ("", 2, "cuda:0"),
        ("cpu", 2, "cpu"),
        (" CPU ", 0, "cpu"),
        ("1", 2, "cuda:1"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_words(gpus, text, count, expected):
    gpus(count)
    assert choose_device(text) == torch.device(expected)


@pytest.mark.parametrize(
    ("text", "count", "message"),
    [
        ("0", 0, "--device 0: this machine has 0 CUDA GPUs; use cpu"),
        ("2", 2, "--device 2: this machine has 2 CUDA GPUs; use cpu"),
        ("0,1", 2, "--device 0,1: one device at a time; name one GPU"),
        ("gpu", 2, "--device gpu: expected cpu, mps, or a GPU number like 0"),
        ("-1", 2, "--device -1: expected cpu, mps, or a GPU number like 0"),
        ("mps", 0, "--device mps: this machine has no MPS device; use cpu"),
    ],
)
def test_wrong_words(gpus, text, count, message):
    gpus(count)
    with pytest.raises(ConfigError) as caught:
        choose_device(text)
    assert str(caught.value) == message


def test_the_cpu_in_words():
    cpu = torch.device("cpu")
    assert describe_device(cpu) == f"cpu, {torch.get_num_threads()} threads"
    assert 1 < peak_memory_mb(cpu) < 1e6
