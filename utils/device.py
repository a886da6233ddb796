"""Which device to compute on, as `--device` spells it."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from utils.errors import ConfigError

if TYPE_CHECKING:
    from utils.engine.distributed import Ranks


def choose_device(text: str, ranks: Ranks | None = None) -> torch.device:
    """`cpu`, `mps`, a GPU number, or empty for the best there is.

    Args:
        text: several GPU numbers, as `0,1`, with as many processes on this machine.
        ranks: this process among those that train together, each of which gets its own GPU.

    Raises:
        ConfigError: the device is not on this machine, or there is not one for each process.
    """
    word = text.strip().lower().removeprefix("cuda:")
    if ranks is not None and ranks.count > 1 and word not in ("cpu", "mps"):
        numbers = word.split(",") if word else [str(n) for n in range(torch.cuda.device_count())]
        if numbers and ranks.local_rank >= len(numbers):
            raise ConfigError(
                f"--device {text}: {len(numbers)} GPUs for process {ranks.local_rank} of this "
                "machine; start fewer with torchrun --nproc-per-node"
            )
        word = numbers[ranks.local_rank] if numbers else ""
    if word == "cpu":
        return torch.device("cpu")
    if word == "mps" or (word == "" and torch.backends.mps.is_available()):
        if not torch.backends.mps.is_available():
            raise ConfigError("--device mps: this machine has no MPS device; use cpu")
        return torch.device("mps")
    if word == "":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if "," in word:
        count = word.count(",") + 1
        raise ConfigError(
            f"--device {text}: several GPUs train together with "
            f"torchrun --nproc-per-node {count} train.py --device {text} ...; else name one GPU"
        )
    if not word.isdigit():
        raise ConfigError(f"--device {text}: expected cpu, mps, or a GPU number like 0")
    if int(word) >= torch.cuda.device_count():
        raise ConfigError(
            f"--device {text}: this machine has {torch.cuda.device_count()} CUDA GPUs; use cpu"
        )
    return torch.device("cuda", int(word))


def describe_device(device: torch.device) -> str:
    """The device in words, for the console."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    return f"{device.type}, {torch.get_num_threads()} threads"


def peak_memory_mb(device: torch.device) -> float:
    """The most memory used so far in MB: on a GPU by tensors there, else by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if sys.platform == "linux":
        # Not ru_maxrss, which a process inherits from the one that started it.
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) * 1024 / 1e6
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6
