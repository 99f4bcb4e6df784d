"""Time mixtures on equal terms: ``python -m benchmarks.run --quick``.

Same data, same start, same number of iterations; the final log-likelihood, computed by one scorer for all, stands
beside every time. The first call of each contestant is timed apart (for jaxgmm it compiles); the rest are interleaved
and their median is quoted. Every call ends with its numbers on the host, so nothing is still computing when the clock
stops. Records are JSON lines, each with the machine, the versions and the date.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine, measure, memory, process
from benchmarks.cases import CASES, Case
from benchmarks.config import Settings, load
from benchmarks.measure import Record
from benchmarks.show import show

RESULTS = Path(__file__).parent / "results"
QUICK = Settings(cases=("quick-*",), repeats=3)


def settings_of(options: argparse.Namespace) -> Settings:
    """The configuration, with what the command line says instead."""
    settings = load(options.config) if options.config else QUICK
    given: dict[str, object] = {}
    if options.case:
        given["cases"] = tuple(options.case)
    if options.contestant:
        given["contestants"] = tuple(options.contestant)
    if options.repeats:
        given["repeats"] = options.repeats
    return dataclasses.replace(settings, **given)


def run_case(case: Case, settings: Settings, rates: dict[str, float], with_memory: bool) -> list[Record]:
    """The records of one case, with peak memory in processes of their own when asked for."""
    if case.task == "process":
        return process.measure(case, settings.repeats)
    if case.task == "memory":
        return memory.measure(case, settings.competing())
    records = measure.timed(case, settings.competing(), settings.repeats, settings.max_seconds, rates)
    if with_memory and case.task == "em":
        found = memory.measure(case, settings.competing())
        peaks = {(r["contestant"], r["dtype"]): r for r in found if r.get("variant") != "cached"}
        for record in records:
            peak = peaks[record["contestant"], record["dtype"]]
            record["peak"] = {key: peak[key] for key in ("megabytes", "failed", "skipped") if key in peak}
    return records


def finished(path: Path | None) -> set[str]:
    """Cases that a results file already has figures of."""
    if path is None or not path.exists():
        return set()
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return {record["case"] for record in records if record["contestant"] != "*"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases, print a table for each, append the records to a file."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--quick", action="store_true", help="the small cases, under a minute (the default)")
    what.add_argument("--config", type=Path, help="a TOML file such as configs/bench_cpu.toml")
    parser.add_argument("--list", action="store_true", help="list the cases that would run, and end")
    parser.add_argument("--case", action="append", metavar="NAME", help="only this case or pattern; repeatable")
    parser.add_argument("--contestant", action="append", metavar="NAME", help="only this library[:dtype]; repeatable")
    parser.add_argument("--repeats", type=int, metavar="N", help="timed calls after the first")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="begin no case after so long; record the rest")
    parser.add_argument("--memory", action="store_true", help="also the peak memory of every fit")
    parser.add_argument("--resume", action="store_true", help="leave out cases that the output file has")
    parser.add_argument("-o", "--output", type=Path, help="append JSON lines to this file")
    options = parser.parse_args(argv)
    try:
        settings = settings_of(options)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if options.list:
        for case in CASES.values() if not (options.config or options.case or options.quick) else settings.selected():
            wanted = ", ".join(f"{ratio:g} x {name}" for name, ratio in case.targets.items())
            print(f"{case.name:28} {case.task:14} {case.size:50} {wanted or case.limit or ''}")
        return 0

    begun = time.monotonic()
    about = machine.describe()
    output = options.output
    if output is None and options.config:
        output = RESULTS / f"{about['date'][:10]}-{machine.slug(about)}.jsonl"
    print(f"{about['processor']}, {about['cores']} cores, {about['device']}; {about['date']}")
    print(", ".join(f"{name} {version}" for name, version in about["packages"].items()))
    protocol = {"repeats": settings.repeats, "max_seconds": settings.max_seconds}
    done = finished(output) if options.resume else set()
    cases = [case for case in settings.selected() if case.name not in done]
    timed = [case for case in cases if case.task not in ("memory", "process")]
    rates = {dtype: machine.product_rate(dtype) for dtype in ("float32", "float64") if timed}
    for case in cases:
        if options.budget is not None and time.monotonic() - begun > options.budget:
            records = [measure.blank(case) | {"skipped": f"the budget of {options.budget:g} s was used up"}]
        else:
            records = run_case(case, settings, rates, options.memory)
        show(records)
        if output:
            output.parent.mkdir(parents=True, exist_ok=True)
            with output.open("a") as file:
                for record in records:
                    file.write(json.dumps(record | {"settings": protocol, "machine": about}) + "\n")
    if output:
        print(f"\nrecords in {output}; python -m benchmarks.report {output} -o report.md", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
