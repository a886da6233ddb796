"""How much memory there is, and how much of it something takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from utils.errors import ConfigError

USED_AT_MOST = 0.8  # of what is free: the rest is for what cannot be foreseen


def free_memory() -> int | None:
    """Bytes of memory that this process can still have; None where nothing says (not Linux)."""
    lines = _lines(Path("/proc/meminfo"))
    values = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
    if "MemAvailable" not in values:
        return None
    free = int(values["MemAvailable"][0]) * 1024
    group = Path("/sys/fs/cgroup")  # of a container
    limit, used = (_lines(group / name) for name in ("memory.max", "memory.current"))
    if limit and used and limit[0].isdigit():
        free = min(free, int(limit[0]) - int(used[0]))
    return free


def memory_budget(device: torch.device) -> int:
    """Bytes that this process may take in all on a device: what it has, and 80 % of what is free.

    Raises:
        ConfigError: this machine does not say.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return torch.cuda.memory_reserved(device) + int(USED_AT_MOST * free)
    free_here = free_memory()
    if device.type != "cpu" or free_here is None:
        raise _unmeasurable()
    return _status_bytes("VmRSS") + int(USED_AT_MOST * free_here)


def peak_memory(device: torch.device, action: Callable[[], None]) -> int | None:
    """Bytes that this process has at the most on a device while something is done.

    Returns:
        None where the memory did not suffice.

    Raises:
        ConfigError: this machine does not say.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    else:
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak
        except OSError:
            raise _unmeasurable() from None
    try:
        action()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return _status_bytes("VmHWM")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch says so, of a GPU or of this machine's own memory."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _unmeasurable() -> ConfigError:
    return ConfigError(
        "--batch-size -1: memory can be measured on NVIDIA GPUs and on Linux only; give a number"
    )


def _status_bytes(name: str) -> int:
    for line in _lines(Path("/proc/self/status")):
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise _unmeasurable()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
