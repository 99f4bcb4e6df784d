"""Streams against rows in memory: ``python -m benchmarks.streaming --rows 67108864 -o results.jsonl``.

Three figures, each child in a process of its own, float32, D 16, K 32, full covariances, from a given start:

- rows a second of a pass over a warm ``.npy`` file, and of an iteration over the same rows in memory;
- the peak resident memory of the streamed fit, for N rows and for a tenth of them;
- seconds of a pass by one process of one core, and by two processes of one core each.

The time of a pass is the difference between fits of few and of more passes, so that starting and compiling cancel.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.memory import peak_bytes

D, K = 16, 32
SHORT, LONG = 2, 6
CHUNK = 1 << 20


def write_rows(path: Path, n_rows: int) -> None:
    """Rows from K spherical clouds, written piece by piece."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(K, D)).astype(np.float32) * 4
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (n_rows, D))
    for start in range(0, n_rows, CHUNK):
        part = rows[start : start + CHUNK]
        part[:] = means[rng.integers(0, K, len(part))] + rng.standard_normal(part.shape, np.float32)
    rows.flush()


def measure(act: str, path: Path, n_rows: int) -> dict[str, Any]:
    """The child: a short and a longer fit; seconds of a pass and the peak."""
    import jax

    import jaxgmm
    from jaxgmm.scale.stream import BATCH_BYTES

    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        from jaxgmm.scale.processes import join

        join()
    head = np.load(path, mmap_mode="r")[: 1 << 14]
    start = jaxgmm.params_from_means(np.array(head), np.array(head[:K]))
    x: Any = jaxgmm.scan_table(path) if act == "stream" else np.load(path)[:n_rows]
    batch = BATCH_BYTES // (D * 4)
    more = {"batch_size": batch} if act == "stream" else {}
    seconds = []
    for n_iter in (SHORT, SHORT, LONG):
        begun = time.perf_counter()
        result = jaxgmm.fit(x, K, init=start, tol=0.0, max_iter=n_iter, **more)
        seconds.append(time.perf_counter() - begun)
    del jax
    return {
        "seconds_per_pass": (seconds[2] - seconds[1]) / (LONG - SHORT),
        "seconds": seconds,
        "rows": int(result.n_samples),
        "log_likelihood": result.log_likelihood,
        "peak_bytes": peak_bytes(),
    }


def child(
    act: str, path: Path, n_rows: int, cores: Sequence[int], environment: dict[str, str]
) -> subprocess.Popen[str]:
    """A process that measures, on these cores only."""
    command = [sys.executable, "-m", "benchmarks.streaming", "--act", act, "--path", str(path), "--rows", str(n_rows)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a child printed last."""
    out, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"a child ended with {process.returncode}")
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def main(argv: list[str] | None = None) -> int:
    """All figures, or with ``--act`` one child."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1 << 22)
    parser.add_argument("--act", choices=["stream", "memory"])
    parser.add_argument("--path", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args(argv)
    if options.act:
        print(json.dumps(measure(options.act, options.path, options.rows)))
        return 0
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(dir=options.output.parent if options.output else None) as folder:
        large, small = Path(folder, "large.npy"), Path(folder, "small.npy")
        write_rows(large, options.rows)
        write_rows(small, options.rows // 10)
        in_memory = told(child("memory", large, min(options.rows, 1 << 23), cores, {}))
        stream, tenth = (told(child("stream", path, options.rows, cores, {})) for path in (large, small))
        one = told(child("stream", small, options.rows, cores[:1], {}))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        joined = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
        pair = [
            child("stream", small, options.rows, cores[i : i + 1], joined | {"JAX_PROCESS_ID": str(i)})
            for i in range(2)
        ]
        two = [told(process) for process in pair]
    rates = [found["rows"] / found["seconds_per_pass"] for found in (in_memory, stream)]
    record = {
        "case": "streaming-f32-16-32",
        "rows": options.rows,
        "gigabytes": options.rows * D * 4 / 1e9,
        "rows_per_second": {"memory": rates[0], "stream": rates[1], "ratio": rates[1] / rates[0]},
        "peak_megabytes": {"stream": stream["peak_bytes"] / 1e6, "tenth": tenth["peak_bytes"] / 1e6},
        "two_processes": {"speed": one["seconds_per_pass"] / max(found["seconds_per_pass"] for found in two)},
        "log_likelihood": {"stream": tenth["log_likelihood"], "two": two[0]["log_likelihood"]},
        **machine.describe(),
    }
    print(json.dumps(record, indent=1))
    if options.output:
        with options.output.open("a") as handle:
            handle.write(json.dumps(record) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
