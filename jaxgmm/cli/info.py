"""``jaxgmm doctor``: is this installation sound, and what does it have?"""

from __future__ import annotations

import importlib.metadata
import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxgmm._memory import free_device_memory, free_memory
from jaxgmm._provenance import device, versions
from jaxgmm._status import FitError, JaxgmmError, Status
from jaxgmm.cli import surroundings
from jaxgmm.cli.output import Console
from jaxgmm.cli.parser import Settings
from jaxgmm.functional import em_step
from jaxgmm.params import GMMParams

# Package -> what it is for; none is needed by the core.
_EXTRAS = {
    "scipy": "reading .mat files",
    "pyarrow": "reading Parquet and Feather files",
    "scikit-learn": "to_sklearn, and its own estimators beside ours",
    "matplotlib": "plots",
}


def doctor(settings: Settings, console: Console) -> None:
    """Versions, devices, optional packages and an EM step whose answer is known. `FitError` if that answer is wrong.

    `JaxgmmError` where there is no device to compute on, after all that can be said without one.
    """
    import jax

    found = versions()
    where, missing = _device()
    extras = {name: _version(name) for name in _EXTRAS}
    x64 = bool(jax.config.read("jax_enable_x64"))
    kept = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    lines = [f"{name:<14}{version}" for name, version in found.items()]
    devices = f"{where['count']} x {where['kind']} ({where['platform']})" if where else "none"
    lines.append(f"{'device':<14}{devices}, {os.cpu_count()} CPU cores")
    free, cluster = _memory(where), surroundings.cluster()
    lines.append(f"{'memory':<14}" + ", ".join(f"{size / 1e9:.3g} GB free on the {on}" for on, size in free.items()))
    lines.append(f"{'cluster':<14}{cluster.text()}")
    for found_out, cure in surroundings.complaints(where.get("platform", "")):
        console.warn("W311", found_out, cure)
    lines += [
        f"{name:<14}{version or f'not installed: pip install {name}'} ({_EXTRAS[name]})"
        for name, version in extras.items()
    ]
    lines.append(f"{'64-bit switch':<14}{'on' if x64 else 'off'}; float64 data is computed in float64 either way")
    lines.append(f"{'programs':<14}{f'kept in {kept}' if kept else 'compiled anew by every command'}")
    if missing is not None:
        console.result("\n".join(lines))
        raise missing
    started = time.perf_counter()
    errors = {dtype: _known_answer(dtype) for dtype in ("float32", "float64")}
    seconds = time.perf_counter() - started
    sound = errors["float64"] < 1e-9 and errors["float32"] < 1e-3
    lines.append(f"{'self-check':<14}{'ok' if sound else 'WRONG'}: one EM step in each precision, {seconds:.1f} s")
    console.result("\n".join(lines))
    if not sound:
        raise FitError(
            "E305",
            f"the self-check is off by {max(errors.values()):.2g}",
            "reinstall jax and jaxlib in matching versions",
            Status.NONFINITE,
        )
    console.emit(
        {
            "command": "doctor",
            "versions": found,
            "device": where,
            "free_memory": free,
            "cluster": cluster.as_dict(),
            "extras": extras,
            "x64": x64,
            "cache": kept,
            "self_check": {"ok": sound, "seconds": seconds, "errors": errors},
        }
    )


def _device() -> tuple[dict[str, Any], JaxgmmError | None]:
    """The devices; where there are none, nothing and why."""
    try:
        return device(), None
    except JaxgmmError as error:
        return {}, error


def _memory(where: Mapping[str, Any]) -> dict[str, int]:
    """Free bytes of the machine, and of an accelerator."""
    known = {"machine": free_memory()}
    if where.get("platform", "cpu") != "cpu":
        known["device"] = free_device_memory()
    return {on: size for on, size in known.items() if size is not None}


def _known_answer(dtype: str) -> float:
    """How far one EM step from a rough guess is from the mean and the variance of eight points, the exact answer."""
    x = np.arange(8.0, dtype=dtype)[:, None]
    guess = GMMParams(
        weights=np.ones(1, dtype),
        means=np.ones((1, 1), dtype),
        covariances=np.ones((1, 1, 1), dtype),
        covariance_type="full",
    )
    params, _ = em_step(guess, x, reg_covar=0.0)
    return float(np.max(np.abs((params.means[0, 0] - 3.5, params.covariances[0, 0, 0] - 5.25))))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
