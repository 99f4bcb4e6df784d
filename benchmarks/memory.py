"""Peak memory of a fit beyond the data, each contestant in processes of its own: one loads, others also fit."""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.cases import CASES, Case
from benchmarks.contestants import Contestant, parse
from benchmarks.measure import Record, blank, outcome_of
from benchmarks.problems import Problem, Start, make_problem
from benchmarks.process import with_cache

# Libraries that compile their programs when they are first called.
COMPILING = ("jaxgmm", "gmmx")


def measure(case: Case, contestants: Sequence[Contestant]) -> list[Record]:
    """For each contestant megabytes at the peak of a fit, less those of only loading data and library.

    Compiling takes memory too: what compiles has two records, one cold, one with its programs stored by the first.
    """
    problem = make_problem(case)
    records = []
    with tempfile.TemporaryDirectory() as folder:
        for contestant in dict.fromkeys(Contestant(c.library, c.dtype_for(case)) for c in contestants):
            path = _save(problem.astype(contestant.dtype), Path(folder))
            cache = Path(folder) / f"{contestant.library}-{contestant.dtype}"
            for variant in ("cold", "cached") if contestant.library in COMPILING else ("",):
                record = blank(case, contestant.library, contestant.dtype) | {"figure": "megabytes"}
                records.append(record)
                if variant:
                    record["variant"] = variant
                try:
                    load, fit = (_child(case, contestant, path, act, cache) for act in ("load", "fit"))
                    record |= _figures(load, fit)
                except Exception as error:
                    record |= outcome_of(error)
    return records


def _figures(load: Record, fit: Record) -> Record:
    """What the two processes of a contestant tell."""
    for told in (load, fit):
        if "bytes" not in told:
            return told
    peak = (fit["bytes"] - load["bytes"]) / 1e6
    return {
        "megabytes": {"median": peak, "min": peak, "max": peak},
        "load_megabytes": load["bytes"] / 1e6,
        "device_megabytes": fit["device_bytes"] / 1e6,
        "note": "peak of a process that fits, less that of one that only loads",
    }


def peak_bytes() -> int:
    """The largest resident size so far. Linux lets a child inherit its parent's in ru_maxrss, so not from there."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def device_peak_bytes() -> int:
    """The same on an accelerator, 0 without one."""
    if "jax" not in sys.modules:
        return 0
    stats = sys.modules["jax"].devices()[0].memory_stats()
    return int(stats["peak_bytes_in_use"]) if stats else 0


def _save(problem: Problem, folder: Path) -> Path:
    path = folder / f"{problem.x.dtype}.npz"
    if path.exists():
        return path
    start = problem.start
    np.savez(path, x=problem.x, weights=start.weights, means=start.means, covariances=start.covariances)
    return path


def _child(case: Case, contestant: Contestant, path: Path, act: str, cache: Path) -> Record:
    name = f"{contestant.library}:{contestant.dtype}"
    command = [sys.executable, "-m", "benchmarks.memory", case.name, name, str(path), act]
    done = subprocess.run(command, capture_output=True, text=True, env=with_cache(cache))
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"the process that was to {act} ended with {done.returncode}: {last}")
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: list[str] | None = None) -> int:
    """The child: load the data and the library, perhaps fit, print the peak."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("case", choices=list(CASES))
    parser.add_argument("contestant")
    parser.add_argument("path", type=Path)
    parser.add_argument("act", choices=["load", "fit"])
    options = parser.parse_args(argv)
    arrays = np.load(options.path)
    start = Start(arrays["weights"], arrays["means"], arrays["covariances"])
    case = CASES[options.case]
    problem = Problem(case, arrays["x"], start)
    try:
        ready = parse(options.contestant).prepare(problem, task="em")
        if options.act == "fit":
            ready.run(case.n_iter[-1])
        print(json.dumps({"bytes": peak_bytes(), "device_bytes": device_peak_bytes()}))
    except Exception as error:
        print(json.dumps(outcome_of(error)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
