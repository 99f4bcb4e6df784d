"""Whether jaxgmm reached what a case asks of it, from records alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.measure import Record


@dataclass(frozen=True)
class Verdict:
    """One line of the table of targets. ratio: theirs / ours, or ours where the target is a limit."""

    case: str
    size: str
    ours: str
    against: str
    theirs: str
    ratio: str
    target: str
    verdict: str
    roofline: str


def latest(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Case -> its records, the last one of each contestant, dtype and variant; skips of whole cases only if alone."""
    found: dict[str, dict[tuple[str, str, str], Record]] = {}
    for record in records:
        key = (record["contestant"], record["dtype"], record.get("variant", ""))
        found.setdefault(record["case"], {})[key] = record
    return {
        case: [r for key, r in by_key.items() if key[0] != "*" or len(by_key) == 1] for case, by_key in found.items()
    }


def figure_of(record: Record) -> float | None:
    """The median of what is compared; None where there is none."""
    return record.get(record["figure"], {}).get("median")


def written(record: Record) -> str:
    """The figure with its unit."""
    value = figure_of(record)
    if value is None:
        return "-"
    if record["figure"] == "megabytes":
        return f"{value:.0f} MB"
    if record["figure"] == "ms_per_iteration":
        return f"{value:.3g} ms" if value < 1000 else f"{value:,.0f} ms"
    return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms"


def doubts(record: Record, value_too: bool = True) -> list[str]:
    """Reasons why a figure does not count; a peer's counts even if its value is off, which is then said beside it."""
    name = record["contestant"].replace("*", "all")
    if "skipped" in record:
        return [f"{name} skipped: {record['skipped']}"]
    if "failed" in record:
        return [f"{name} failed: {record['failed']}"]
    found = []
    value = figure_of(record)
    if value is None or (value <= 0 and record["figure"] != "megabytes"):
        found.append(f"{name}'s figure is lost in noise")
    if record["task"] == "em" and record.get("equal_start") is False:
        found.append(f"{name}'s start differs")
    if record.get("equal_iterations") is False:
        found.append(f"{name} did {record['iterations_done']} iterations")
    if record.get("agrees") is False and value_too:
        found.append(f"{name}'s value is off by {record['deviation']:.1e}")
    return found


def judge(records: Sequence[Record]) -> list[Verdict]:
    """The verdicts on one case, one for each target; none for a case without."""
    first = records[0]
    ours = [r for r in records if r["contestant"] == "jaxgmm" and r["dtype"] == r["case_dtype"]]
    limited = [r for r in records if r["limit"] is not None]
    if limited:
        return [_limit(r) for r in ours or limited[:1] if r in limited]
    return [
        _against(first, ours[0] if ours else None, peer, ratio, [r for r in records if r["contestant"] == peer])
        for peer, ratio in first["targets"].items()
    ]


def _limit(record: Record) -> Verdict:
    trouble = doubts(record)
    unit = "MB" if record["figure"] == "megabytes" else "s"
    value = figure_of(record)
    passed = "pass" if value is not None and value <= record["limit"] else "**MISS**"
    return Verdict(
        f"{record['case']} {record.get('variant', '')}".strip(),
        record["size"],
        written(record),
        "limit",
        "",
        "",
        f"{record['limit']:g} {unit} at most",
        "; ".join(trouble) or passed,
        "",
    )


def _against(first: Record, ours: Record | None, peer: str, target: float, theirs: Sequence[Record]) -> Verdict:
    """Against the fastest of a peer's dtypes."""
    usable = [r for r in theirs if not doubts(r, value_too=False)]
    best = min(usable, key=lambda r: figure_of(r) or 0.0) if usable else None
    trouble = doubts(ours) if ours else ["jaxgmm not run"]
    if best is None:
        trouble += [text for r in theirs for text in doubts(r, value_too=False)] or [f"{peer} not run"]
    ratio = (figure_of(best) or 0.0) / (figure_of(ours) or 1.0) if ours and best and not trouble else None
    verdict = "; ".join(trouble)
    if ratio is not None and best is not None:
        verdict = "pass" if ratio >= target else "**MISS**"
        if best.get("agrees") is False:
            verdict += f" ({peer}'s value is off by {best['deviation']:.1e})"
    return Verdict(
        first["case"],
        first["size"],
        written(ours) if ours else "-",
        f"{peer} {best['dtype']}" if best and best["dtype"] != first["case_dtype"] else peer,
        written(best) if best else "-",
        f"{ratio:.1f} x" if ratio is not None else "-",
        f"{target:g} x",
        verdict,
        f"{ours['times_roofline']:.1f} x" if ours and "times_roofline" in ours else "",
    )
