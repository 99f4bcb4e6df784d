"""From a case and its contestants to records: plain dictionaries, one for each contestant, ready for JSON."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from benchmarks.cases import Case
from benchmarks.contestants import Contestant, Outcome, Prepared
from benchmarks.contestants.base import Absent
from benchmarks.problems import make_problem
from benchmarks.scoring import EQUAL_START, OWN_START, deviation, scored_rows
from benchmarks.timing import Timing, interleave, per_iteration, spread

Record = dict[str, Any]
Clock = Callable[[], float]

# Whose value the others' are compared with: the first of these, in float64 if any ran in that.
REFERENCES = ("numpy", "scikit-learn", "jaxgmm")


def blank(case: Case, contestant: str = "*", dtype: str = "") -> Record:
    """What every record says of its case; a contestant ``*`` stands for all of them."""
    record = {("case" if key == "name" else key): value for key, value in dataclasses.asdict(case).items()}
    own = {"contestant": contestant, "dtype": dtype or case.dtype, "figure": case.figure}
    plain = {"n_iter": list(case.n_iter), "targets": dict(case.targets)}
    return record | own | plain | {"case_dtype": case.dtype, "size": case.size}


def entrants(case: Case, contestants: Iterable[Contestant]) -> list[Contestant]:
    """Those that do the case's task, each with its dtype, once."""
    named = (Contestant(c.library, c.dtype_for(case)) for c in contestants if c.takes_part(case))
    return list(dict.fromkeys(named))


def outcome_of(error: Exception) -> dict[str, str]:
    """An absent library or an absent ability is a skip, anything else a failure."""
    kind = "skipped" if isinstance(error, (ImportError, Absent)) else "failed"
    return {kind: f"{type(error).__name__}: {error}"[:500]}


def timed(
    case: Case,
    contestants: Sequence[Contestant],
    repeats: int,
    max_seconds: float,
    rates: Mapping[str, float],
    clock: Clock = time.perf_counter,
) -> list[Record]:
    """All contestants on one problem, their calls interleaved; then the values beside the times, compared."""
    problem = make_problem(case)
    records: dict[Contestant, Record] = {}
    prepared: dict[Contestant, Prepared] = {}
    for contestant in entrants(case, contestants):
        records[contestant] = blank(case, contestant.library, contestant.dtype)
        try:
            prepared[contestant] = contestant.prepare(problem)
        except Exception as error:  # one contestant's trouble is not the others'
            records[contestant] |= outcome_of(error)
    runs = {key: [partial(p.run, n) for n in case.n_iter or (0,)] for key, p in prepared.items()}
    for contestant, found in interleave(runs, repeats, max_seconds, clock).items():
        if isinstance(found, Exception):
            records[contestant] |= outcome_of(found)
        else:
            records[contestant] |= _figures(case, prepared[contestant], found)
            _add_roofline(case, records[contestant], rates)
    _compare(case, list(records.values()))
    load = [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None
    return [record | {"load_average": load} for record in records.values()]


def _figures(case: Case, ready: Prepared, done: Sequence[Timing[Outcome]]) -> Record:
    """The numbers of one contestant: whole calls, first call, iterations, value."""
    last = done[-1]
    seconds = [ready.scale * s for s in last.seconds]
    record: Record = {
        "repeats": len(seconds),
        "seconds": spread(seconds),
        "first_seconds": last.first,
        # The first call of all compiles; where there are two counts that is the one with fewer iterations.
        "compile_seconds": max(0.0, done[0].first - spread(done[0].seconds)["median"]),
        "equal_start": ready.equal_start,
        "note": ready.note,
    }
    if len(done) == 2:
        iterations = per_iteration(done[0].seconds, done[1].seconds, case.n_iter)
        record["ms_per_iteration"] = {name: 1e3 * value for name, value in spread(iterations).items()}
    if case.n_iter:
        record["iterations_done"] = [t.result.n_iter for t in done]
        record["equal_iterations"] = record["iterations_done"] == list(case.n_iter)
    try:
        record["value"] = last.result.value()
    except Exception as error:
        return outcome_of(error)
    return record


def _add_roofline(case: Case, record: Record, rates: Mapping[str, float]) -> None:
    """The time that the useful products of an iteration take at the machine's measured rate."""
    rate = rates.get(record["dtype"])
    if rate and "ms_per_iteration" in record:
        record["gflops_measured"] = rate / 1e9
        record["roofline_ms"] = 1e3 * case.flops / rate
        record["times_roofline"] = record["ms_per_iteration"]["median"] / record["roofline_ms"]


def _compare(case: Case, records: Sequence[Record]) -> None:
    """Set every value against the reference's, and say loudly where they differ."""
    sound = [r for r in records if r["contestant"] in REFERENCES and "value" in r and r.get("equal_iterations", True)]
    rank = {name: place for place, name in enumerate(REFERENCES)}
    reference = min(sound, key=lambda r: (r["dtype"] != "float64", rank[r["contestant"]]), default=None)
    for record in records:
        if "value" not in record or reference is None:
            continue
        record["reference"] = reference["contestant"]
        record["scored_rows"] = scored_rows(case)
        record["deviation"] = deviation(record["value"], reference["value"])
        equal = record["equal_start"] and reference["equal_start"]
        record["tolerance"] = EQUAL_START[record["dtype"]] if equal else OWN_START
        # A non-finite deviation agrees with nothing.
        record["agrees"] = abs(record["deviation"]) <= record["tolerance"]
