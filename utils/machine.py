"""The processor of this machine, and its memory. No torch here."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

USED_AT_MOST = 0.8  # of the memory that is free: the rest is for what cannot be foreseen


def processor_name() -> str:
    """What the processor calls itself, or its architecture where that is not known."""
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def may_lack_vnni() -> bool:
    """Whether this is an x86 processor of which the system does not say that it has VNNI.

    VNNI adds products of 8-bit numbers in 32 bits, where other instructions add them in 16.
    """
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686"):
        return False
    return not any("vnni" in line for line in _lines(Path("/proc/cpuinfo")))


def free_memory() -> int | None:
    """Bytes of memory that this process can still have; None where it is unknown (not Linux)."""
    lines = _lines(Path("/proc/meminfo"))
    values = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
    if "MemAvailable" not in values:
        return None
    free = int(values["MemAvailable"][0]) * 1024
    return min([free, *_free_in_groups(_lines(Path("/proc/self/cgroup")), Path("/sys/fs/cgroup"))])


def _free_in_groups(memberships: Sequence[str], root: Path) -> Iterator[int]:
    """What each limit on this process's control groups (of a container, of a job) still allows.

    Memory that only caches files does not count: it is given back when it is needed.

    Args:
        memberships: lines of /proc/self/cgroup, `number:controllers:path`.
        root: where control groups are mounted.
    """
    for line in memberships:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            top, names, cache = root, ("memory.max", "memory.current"), "inactive_file"
        elif "memory" in controllers.split(","):
            top, cache = root / "memory", "total_inactive_file"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            limit, used = (_lines(folder / name) for name in names)
            if limit and used and limit[0].isdigit():
                cached = [row.split()[1] for row in _lines(folder / "memory.stat")
                          if row.split()[0] == cache]  # fmt: skip
                yield int(limit[0]) - int(used[0]) + sum(map(int, cached))
            if folder == top:
                break


def status_bytes(name: str) -> int | None:
    """A figure of /proc/self/status; None where there is none (not Linux)."""
    for line in _lines(Path("/proc/self/status")):
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
