"""Time EM on equal terms: ``python -m benchmarks.run --quick``.

Same data, same start, same number of iterations; the final log-likelihood stands beside every time. The first
call of each contestant is timed apart (for jaxgmm it compiles); the rest are interleaved and their median is
quoted. Every run ends with its numbers on the host, so nothing is still computing when the clock stops.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.cases import QUICK, Case, make_problem
from benchmarks.contestants import CONTESTANTS, scikit_learn_log_likelihood


def machine() -> dict[str, Any]:
    """Processor, cores, date and the versions of everything that was timed."""
    packages = {}
    for name in ("jaxgmm", "jax", "jaxlib", "numpy", "scipy", "scikit-learn"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "absent"
    import jax

    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "packages": packages,
    }


def measure(case: Case, repeats: int) -> list[dict[str, Any]]:
    """All contestants on one case; one record each, an absent or failing one recorded as such."""
    problem = make_problem(case)
    records: dict[str, dict[str, Any]] = {}
    runs = {}
    for name, prepare in CONTESTANTS.items():
        record: dict[str, Any] = {"contestant": name, "case": case.name, "n_iter": case.n_iter}
        records[name] = record
        try:
            run = prepare(problem)
            start = time.perf_counter()
            run()
        except ImportError as error:
            record["skipped"] = str(error)
        except Exception as error:  # a contestant that breaks is a result, not the end of the benchmark
            record["failed"] = f"{type(error).__name__}: {error}"
        else:
            record["first_seconds"] = time.perf_counter() - start
            runs[name] = run
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            log_likelihood, n_iter = run()
            times[name].append(time.perf_counter() - start)
            records[name] |= {"log_likelihood": log_likelihood, "n_iter": n_iter}
    for name, run in runs.items():
        record = records[name]
        if name == "scikit-learn":
            record["log_likelihood"] = scikit_learn_log_likelihood(run, problem)
        per_iteration = [1e3 * t / max(1, record["n_iter"]) for t in times[name]]
        record["ms_per_iteration"] = statistics.median(per_iteration)
        record["ms_spread"] = [min(per_iteration), max(per_iteration)]
    return list(records.values())


def show(records: list[dict[str, Any]]) -> None:
    """The table for one case, ratios against scikit-learn."""
    print(f"\n{records[0]['case']}")
    print(f"  {'':14}{'ms/iteration':>13}{'first call s':>14}{'iterations':>12}{'log-likelihood':>20}{'speed-up':>10}")
    reference = next((r.get("ms_per_iteration") for r in records if r["contestant"] == "scikit-learn"), None)
    for r in records:
        if "ms_per_iteration" not in r:
            print(f"  {r['contestant']:14}{r.get('skipped') or r.get('failed')}")
            continue
        ratio = f"{reference / r['ms_per_iteration']:.1f} x" if reference else ""
        print(
            f"  {r['contestant']:14}{r['ms_per_iteration']:13.2f}{r['first_seconds']:14.2f}{r['n_iter']:12d}"
            f"{r['log_likelihood']:20.6f}{ratio:>10}"
        )


def main(argv: list[str] | None = None) -> int:
    """Run the cases and print tables; with --output also JSON lines."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the small cases (the only ones so far)")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs per contestant (default 5)")
    parser.add_argument("-o", "--output", type=Path, help="append JSON lines to this file")
    options = parser.parse_args(argv)
    about = machine()
    print(f"{about['processor']}, {about['cores']} cores, {about['device']}; {about['date']}")
    print(", ".join(f"{name} {v}" for name, v in about["packages"].items()))
    for case in QUICK:
        records = measure(case, options.repeats)
        show(records)
        if options.output:
            with options.output.open("a") as file:
                for record in records:
                    file.write(json.dumps(about | record) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
