"""The machine: what it is, which versions run on it, how fast it multiplies matrices."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("jaxgmm", "jax", "jaxlib", "numpy", "scipy", "scikit-learn", "gmmx", "pomegranate", "torchgmm", "torch")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "XLA_FLAGS", "NPROC")


def describe() -> dict[str, Any]:
    """Date, processor, device, memory, thread settings and the versions of everything that may be timed."""
    import jax

    device = jax.devices()[0]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(memory("MemTotal") / 1e9, 1),
        "python": platform.python_version(),
        "platform": device.platform,
        "device": device.device_kind,
        "threads": {name: os.environ.get(name, "default") for name in THREADS},
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def slug(about: dict[str, Any]) -> str:
    """The device as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", f"{about['device']}-{about['cores']}-cores".lower()).strip("-")


def memory(kind: str = "MemAvailable") -> int:
    """Bytes of main memory, total or available; without /proc as if there were no limit."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return 1 << 62
    found = re.search(rf"^{kind}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 1 << 62


def product_rate(dtype: str, size: int = 0, repeats: int = 5) -> float:
    """Floating point operations per second of one large matrix product on the device, the best of a few."""
    import jax
    import jax.numpy as jnp

    size = size or (2048 if jax.default_backend() == "cpu" else 8192)
    with jax.enable_x64(dtype == "float64"):
        a, b = (jax.random.normal(jax.random.key(i), (size, size), dtype) for i in (0, 1))
        # Without a precision an accelerator may take a shorter float32.
        product = jax.jit(lambda a, b: jnp.matmul(a, b.T, precision="highest"))
        product(a, b).block_until_ready()
        best = float("inf")
        for _ in range(repeats):
            start = time.perf_counter()
            product(a, b).block_until_ready()
            best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _commit() -> str:
    """The commit of this source tree, with a + if files were changed since."""
    found = []
    for command in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            done = subprocess.run(["git", *command], cwd=Path(__file__).parent, capture_output=True, text=True)
        except OSError:
            return "unknown"
        found.append(done.stdout.strip())
    head, changes = found
    return f"{head}{'+' * bool(changes)}" if head else "unknown"


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()
