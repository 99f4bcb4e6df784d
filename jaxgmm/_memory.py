"""How much memory there is to be had, on this machine or on its accelerator."""

from __future__ import annotations

import contextlib
from pathlib import Path

import jax

_MEMINFO = Path("/proc/meminfo")
_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def free_memory() -> int | None:
    """Bytes that a process may still take, the limit of its container included; None where the system does not tell."""
    known = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        line = next(line for line in _MEMINFO.read_text().splitlines() if line.startswith("MemAvailable:"))
        known.append(int(line.split()[1]) * 1024)
    for limit, used in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):
            known.append(max(0, int(limit.read_text()) - int(used.read_text())))
    return min(known, default=None)


def free_device_memory() -> int | None:
    """The same of the device that JAX computes on: on a CPU, the machine's own."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return free_memory()
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats:
        return None
    return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
