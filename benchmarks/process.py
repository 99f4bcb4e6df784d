"""Whole processes: the help, first fits from shell and from Python; with no compiled programs stored, and with."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from benchmarks.cases import Case
from benchmarks.measure import Record, blank
from benchmarks.timing import spread

JAXGMM = [sys.executable, "-m", "jaxgmm"]
PYTHON_FIT = "import sys, numpy, jaxgmm; jaxgmm.fit(numpy.loadtxt(sys.argv[1], delimiter=','), 3, key=0)"


def _commands(folder: Path) -> dict[str, list[str]]:
    rows = np.random.default_rng(0).normal(size=(150, 4)) + np.repeat(4 * np.eye(3, 4), 50, axis=0)
    csv = folder / "rows.csv"
    np.savetxt(csv, rows, delimiter=",")
    model = ["-o", str(folder / "model.npz"), "--force"]
    return {
        "process-help": [*JAXGMM, "--help"],
        "process-shell-fit": [*JAXGMM, "fit", str(csv), "-n", "3", "--seed", "0", *model],
        "process-python-fit": [sys.executable, "-c", PYTHON_FIT, str(csv)],
    }


def measure(
    case: Case,
    repeats: int,
    run: Callable[[list[str], Mapping[str, str]], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Record]:
    """Two records: every process with an empty cache of compiled programs, and with one that a process has filled."""
    run = run or _run
    records = []
    with tempfile.TemporaryDirectory() as folder:
        command = _commands(Path(folder))[case.name]
        for kind in ("cold", "cached"):
            record = blank(case, "jaxgmm") | {"variant": kind, "note": " ".join(command[1:3])}
            if kind == "cold":
                record["limit"] = None  # what is asked of a first fit is asked with its programs stored
            records.append(record)
            try:
                seconds = []
                for i in range(repeats + 1):
                    cache = Path(folder) / (f"cold-{i}" if kind == "cold" else "cached")
                    start = clock()
                    run(command, with_cache(cache))
                    seconds.append(clock() - start)
            except RuntimeError as error:
                record["failed"] = str(error)
                continue
            # The first process of all fills the file system's own cache, and that of the second kind.
            record |= {"seconds": spread(seconds[1:]), "first_seconds": seconds[0], "repeats": repeats}
    return records


def with_cache(folder: Path) -> dict[str, str]:
    """An environment in which JAX, and a program that chooses by itself, store compiled programs in `folder`."""
    return {
        **os.environ,
        "XDG_CACHE_HOME": str(folder),
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=dict(environment))
    if done.returncode:
        raise RuntimeError(f"ended with {done.returncode}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
