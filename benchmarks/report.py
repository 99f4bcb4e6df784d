"""Markdown and plots from results: ``python -m benchmarks.report results.jsonl -o report.md``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from pathlib import Path

from benchmarks.measure import Record
from benchmarks.verdicts import judge, latest, written

TARGETS = (
    "case",
    "size",
    "jaxgmm",
    "against",
    "theirs",
    "ratio",
    "target",
    "verdict",
    "above roofline",
)
FIGURES = (
    "contestant",
    "figure",
    "smallest .. largest",
    "whole call",
    "compile",
    "value",
    "deviation",
    "above roofline",
    "note",
)
EXPLANATION = """\
Times are medians. ms: one EM iteration, (t(n2) - t(n1)) / (n2 - n1), free of set-up; s: a whole call. Ratios are
theirs to ours; against a library that runs in several dtypes, to its fastest. The value is the log-likelihood of the
final parameters under one scorer for all, in float64 (inertia for k-means, BIC for the sweep); its deviation is
relative to the reference's. Roofline: 2 N K D (D + 1) operations an iteration (4 N K D for diagonal covariances) at
the measured rate of a large matrix product; the N K exponentials are not counted."""


def read(paths: Iterable[Path]) -> list[Record]:
    """All records of the files, in their order."""
    return [json.loads(line) for path in paths for line in path.read_text().splitlines() if line.strip()]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)


def provenance(records: Iterable[Record]) -> str:
    """Every machine and set of versions that the records come from, with the days."""
    days: dict[str, set[str]] = {}
    for record in records:
        m = record["machine"]
        packages = ", ".join(f"{name} {version}" for name, version in m["packages"].items() if version != "absent")
        threads = ", ".join(f"{name} {value}" for name, value in m["threads"].items() if value != "default")
        text = (
            f"{m['processor']}, {m['cores']} cores, {m['memory_gb']:g} GB, device {m['device']}; Python {m['python']}"
        )
        text += f", {packages}; {threads or 'default threads'}"
        days.setdefault(text, set()).add(m["date"][:10])
    return "\n".join(f"- {', '.join(sorted(dates))}: {text}." for text, dates in days.items())


def rates(records: Iterable[Record]) -> str:
    """The measured rates of matrix products behind the rooflines."""
    found = {r["dtype"]: r["gflops_measured"] for r in records if "gflops_measured" in r}
    listed = ", ".join(f"{rate:,.0f} GFLOP/s in {dtype}" for dtype, rate in sorted(found.items()))
    return f"Measured product rate: {listed}." if found else ""


def _row(record: Record) -> list[str]:
    name = record["contestant"] + (f" {record['dtype']}" if record["dtype"] != record["case_dtype"] else "")
    name += f" {record['variant']}" if "variant" in record else ""
    for kind in ("skipped", "failed"):
        if kind in record:
            return [name, kind, "", "", "", "", "", "", record[kind]]
    f = record[record["figure"]]
    note = record.get("note", "")
    if record.get("equal_iterations") is False:
        note = f"**iterations differ: {record['iterations_done']}** {note}"
    off = f"{record['deviation']:.1e}" if "deviation" in record else ""
    peak = record.get("peak", {}).get("megabytes", {}).get("median")
    return [
        name,
        written(record),
        f"{f['min']:.3g} .. {f['max']:.3g}",
        f"{record['seconds']['median']:.3g} s" if "seconds" in record else "",
        f"{record['compile_seconds']:.2g} s" if "compile_seconds" in record else "",
        f"{record['value']:.6f}" if "value" in record else "",
        off if record.get("agrees", True) else f"**differs: {off}**",
        f"{record['times_roofline']:.1f} x" if "times_roofline" in record else "",
        note + (f"; peak {peak:.0f} MB beyond the data" if peak is not None else ""),
    ]


def markdown(records: Sequence[Record], plots: Sequence[Path] = ()) -> str:
    """The whole report."""
    cases = latest(records)
    verdicts = [astuple(verdict) for mine in cases.values() for verdict in judge(mine)]
    parts = ["# Benchmark", provenance(records), EXPLANATION, rates(records)]
    if verdicts:
        parts += ["## Targets", table(TARGETS, verdicts)]
    if plots:
        parts += ["## Scaling", "\n\n".join(f"![{path.stem}]({path.name})" for path in plots)]
    parts.append("## All figures")
    for case, mine in cases.items():
        parts += [f"### {case}", mine[0]["size"], table(FIGURES, [_row(r) for r in mine])]
    return "\n\n".join(part for part in parts if part) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report and, beside it, the plots."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="files of JSON lines; later records win")
    parser.add_argument("-o", "--output", type=Path, required=True, help="Markdown file; plots go beside it")
    options = parser.parse_args(argv)
    records = read(options.results)
    plots: list[Path] = []
    try:
        from benchmarks.plots import draw

        plots = draw(records, options.output)
    except ImportError as error:
        print(f"no plots: {error}; python -m pip install 'jaxgmm[plot]'", file=sys.stderr)
    options.output.write_text(markdown(records, plots))
    print(f"{options.output}, {len(plots)} plots", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
