"""Which device to compute on, as `--device` spells it."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch

from utils.errors import ConfigError


def choose_device(text: str) -> torch.device:
    """`cpu`, `mps`, a GPU number, or empty for the best there is.

    Raises:
        ConfigError: the device is not on this machine, or several are named.
    """
    word = text.strip().lower().removeprefix("cuda:")
    if word == "cpu":
        return torch.device("cpu")
    if word == "mps" or (word == "" and torch.backends.mps.is_available()):
        if not torch.backends.mps.is_available():
            raise ConfigError("--device mps: this machine has no MPS device; use cpu")
        return torch.device("mps")
    if word == "":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if "," in word:
        raise ConfigError(f"--device {text}: one device at a time; name one GPU")
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
