"""Which device to compute on, its memory and how much something takes, and reproducible runs."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from utils.errors import ConfigError
from utils.flag_rules import DeviceRule, device_word
from utils.machine import USED_AT_MOST, free_memory, processor_name, status_bytes

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
    DeviceRule().check("--device", text)
    word = device_word(text)
    if ranks is not None and ranks.count > 1 and word not in ("cpu", "mps"):
        numbers = word.split(",") if word else [str(n) for n in range(torch.cuda.device_count())]
        if numbers and ranks.local_count > len(numbers):
            raise ConfigError(
                f"--device {text}: {len(numbers)} GPUs for {ranks.local_count} processes of this "
                f"machine; start fewer: torchrun --nproc-per-node {len(numbers)}"
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
    if int(word) >= torch.cuda.device_count():
        raise ConfigError(
            f"--device {text}: this machine has {torch.cuda.device_count()} CUDA GPUs; use cpu"
        )
    return torch.device("cuda", int(word))


def describe_device(device: torch.device) -> str:
    """Name, number and memory of a GPU, or of the processor, for the console."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return f"{torch.cuda.get_device_name(device)} ({device}, {total / 1e9:.1f} GB)"
    free = free_memory()
    memory = "" if free is None else f", {free / 1e9:.1f} GB free"
    return f"{processor_name()} ({device.type}, {torch.get_num_threads()} threads{memory})"


def peak_memory_mb(device: torch.device) -> float | None:
    """The most memory used so far in MB: on a GPU by tensors there, else by this process.

    Returns:
        None where the system does not tell (Windows).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    # Not ru_maxrss where it can be avoided: a process inherits it from the one that started it.
    if (most := status_bytes("VmHWM")) is not None:
        return most / 1e6
    if sys.platform == "win32":
        return None
    import resource  # here: Windows has none

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1e6 if sys.platform == "darwin" else used * 1024 / 1e6


@dataclass(frozen=True, slots=True)
class Room:
    """What else needs the memory that is free.

    Attributes:
        reserved: bytes that will be taken besides, of this machine's memory.
        sharers: processes of this machine that each want the same.
    """

    reserved: int = 0
    sharers: int = 1


def memory_budget(device: torch.device, room: Room) -> int:
    """Bytes that this process may take in all on a device: what it has, and 80 % of what is free.

    Raises:
        ConfigError: memory cannot be measured on this machine.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return torch.cuda.memory_reserved(device) + int(USED_AT_MOST * free)
    free_of_machine, resident = free_memory(), status_bytes("VmRSS")
    if device.type != "cpu" or free_of_machine is None or resident is None:
        raise _unmeasurable()
    share = max(free_of_machine - room.reserved, 0) / room.sharers
    return resident + int(USED_AT_MOST * share)


def forget_peak(device: torch.device) -> None:
    """Let the next peak be that of what comes now.

    Raises:
        ConfigError: this machine does not allow it.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        raise _unmeasurable() from None


def peak_memory(device: torch.device, action: Callable[[], None]) -> int | None:
    """Bytes that this process has at the most on a device while something is done.

    Returns:
        None where the memory did not suffice.

    Raises:
        ConfigError: memory cannot be measured on this machine.
    """
    forget_peak(device)
    try:
        action()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    if (most := status_bytes("VmHWM")) is None:
        raise _unmeasurable()
    return most


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of a GPU's memory, or of this machine's."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _unmeasurable() -> ConfigError:
    return ConfigError(
        "--batch-size -1: memory can be measured on NVIDIA GPUs and on Linux only; give a number"
    )


def seed_everything(seed: int, *, deterministic: bool) -> None:
    """Seed Python, numpy and torch; with `deterministic`, refuse operations that vary by run."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries may draw from the old global state
    torch.manual_seed(seed)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
        torch.use_deterministic_algorithms(True, warn_only=False)
        torch.backends.cudnn.benchmark = False
