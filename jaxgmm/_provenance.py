"""Where a result came from: versions of what computed it, the device it ran on, a fingerprint of the data."""

from __future__ import annotations

import hashlib
import math
import os
import platform
from collections.abc import Iterable
from importlib import metadata
from typing import Any

import numpy as np

from jaxgmm._status import DataError, JaxgmmError, UsageError

# Bytes converted and hashed at a time: a memory map is never copied as a whole.
_CHUNK_BYTES = 1 << 24


def versions() -> dict[str, str]:
    """Versions of jaxgmm, jax, jaxlib, numpy and python, read from package metadata: none is imported.

    A package that was not installed, such as a bare source tree, has version ``"unknown"``.

    >>> sorted(versions())
    ['jax', 'jaxgmm', 'jaxlib', 'numpy', 'python']
    """
    found = {"python": platform.python_version()}
    for name in ("jaxgmm", "jax", "jaxlib", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def device() -> dict[str, Any]:
    """The devices that JAX computes on: platform ("cpu", "gpu" …), kind (the model) and count. Starts JAX.

    Raises `JaxgmmError` where JAX finds none.

    >>> device()["count"] >= 1
    True
    """
    import jax

    try:
        devices = jax.devices()
    # What JAX stumbles over where the plugin of the only platform asked for is missing is an assertion.
    except (RuntimeError, AssertionError) as error:
        raise _no_device(os.environ.get("JAX_PLATFORMS", ""), str(error)) from None
    return {"platform": devices[0].platform, "kind": devices[0].device_kind, "count": len(devices)}


def _no_device(asked: str, reason: str) -> JaxgmmError:
    """Why there is nothing to compute on. asked: the platforms that JAX may use; reason: in JAX's words, or empty."""
    words = reason.partition(" (set JAX_PLATFORMS")[0]
    why = f" ({words})" if words else ""
    if not asked:
        return JaxgmmError("E906", f"JAX finds no device to compute on{why}", "reinstall jax, jaxlib and its plugins")
    found = f"JAX_PLATFORMS is {asked!r}, and JAX finds no such device{why}"
    plugin = ", or pip install 'jax[cuda13]' for an NVIDIA GPU" if {"cuda", "gpu"} & set(asked.split(",")) else ""
    return JaxgmmError("E906", found, f"unset JAX_PLATFORMS{plugin}")


def fingerprint(x: np.ndarray) -> str:
    """SHA-256 of shape, dtype and values (little-endian, row by row), 64 hexadecimal digits.

    Memory order, byte order and machine make no difference; the sign of 0.0 does. x: array of any shape; a
    memory map is read in chunks. Raises `DataError` for Python objects, whose bytes are addresses.

    >>> x = np.arange(6.0).reshape(2, 3)
    >>> fingerprint(x) == fingerprint(np.asfortranarray(x.astype(">f8")))
    True
    """
    x = np.asarray(x)
    if x.dtype.hasobject:
        raise DataError("E201", f"an array of {x.dtype} has no fingerprint", "convert it to numbers first")
    rows = np.atleast_1d(x)
    step = max(1, _CHUNK_BYTES * len(rows) // max(x.nbytes, 1))
    return fingerprint_of_pieces(x.shape, x.dtype, (rows[i : i + step] for i in range(0, len(rows), step)))


def fingerprint_of_pieces(shape: tuple[int, ...], dtype: np.dtype, pieces: Iterable[np.ndarray]) -> str:
    """The `fingerprint` of an array that is given in pieces of neighbouring rows."""
    little = np.dtype(dtype).newbyteorder("<")
    digest = hashlib.sha256(f"{shape} {little.descr}".encode())
    for piece in pieces:
        digest.update(np.ascontiguousarray(piece, dtype=little).data)
    return digest.hexdigest()


def plain(value: Any, name: str = "meta") -> Any:
    """`value` as JSON can hold it: NumPy scalars and arrays as numbers and lists, NaN and infinity as None."""
    value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    if isinstance(value, dict):
        return {str(key): plain(item, f"{name}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, name) for item in value]
    if not isinstance(value, (bool, int, float, str, type(None))):
        raise UsageError(
            "E145", f"{name} is a {type(value).__name__}, which a model file cannot hold", "use numbers or text"
        )
    return None if isinstance(value, float) and not math.isfinite(value) else value
