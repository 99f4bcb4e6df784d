"""Compiled programs kept on disk between commands, so that only the first one of its kind waits for the compiler.

JAX does the work; this module says where, before JAX is imported, by the environment variables that it reads.
``import jaxgmm`` alone keeps nothing. JAX's own bound on the size needs a package that it does not install, so the
directory is trimmed here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import sys

from jaxgmm._files import CACHE_VARIABLE as VARIABLE, cache_folder

# What the directory may hold, a few thousand programs; trimmed to half of it, so that trimming is rare.
MAX_BYTES = 1 << 28


def keep_programs() -> str | None:
    """Have JAX keep what it compiles. Returns a sentence if the directory that the user named cannot be used.

    The directory is $JAX_COMPILATION_CACHE_DIR as it is, else $JAXGMM_CACHE_DIR, else ``jaxgmm`` in the user's
    cache directory. ``JAXGMM_CACHE_DIR=off``, or empty, keeps nothing.
    """
    # A program that has imported JAX and calls `main` itself has made its own choice.
    if "jax" in sys.modules:
        return None
    named = os.environ.get(VARIABLE)
    if named in ("", "off") and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        return None
    # Ours compile in less than the second below which JAX would not store a program.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return None
    try:
        folder = cache_folder(f"xla-{_machine()}")
        assert folder is not None
        trim(folder, MAX_BYTES)
    except OSError as error:
        return named and f"{VARIABLE}={named} cannot be used ({error.strerror}); compiled programs are not kept"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    return None


def trim(folder: str, max_bytes: int) -> None:
    """If the files in a directory exceed `max_bytes`, remove those used longest ago until half of it is left."""
    with os.scandir(folder) as entries:
        files = [(entry.stat(), entry.path) for entry in entries if entry.is_file()]
    total = sum(stat.st_size for stat, _ in files)
    if total <= max_bytes:
        return
    for stat, path in sorted(files, key=lambda file: max(file[0].st_atime, file[0].st_mtime)):
        # Another command may be trimming too.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        total -= stat.st_size
        if total <= max_bytes // 2:
            return


def _machine() -> str:
    """What a compiled program depends on beside JAX: home directories are shared by machines of different kinds."""
    features = ""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(f"{platform.machine()} {features}".encode()).hexdigest()[:8]
