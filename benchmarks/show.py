"""The table of one case on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.measure import Record


def show(records: Sequence[Record]) -> None:
    """Figures, their spread, what stands beside them; ratios are to jaxgmm in the case's own dtype."""
    if not records:
        return
    figure = records[0]["figure"]
    print(f"\n{records[0]['case']}: {records[0]['size']}", flush=True)
    print(f"  {'':20}{figure:>17}{'spread':>21}{'whole s':>10}{'compile s':>11}{'value':>22}{'jaxgmm is':>12}")
    ours = next((r for r in records if r["contestant"] == "jaxgmm" and r["dtype"] == r["case_dtype"]), {})
    base = ours.get(figure, {}).get("median")
    for r in records:
        name = r["contestant"] + (f" {r['dtype']}" if r["dtype"] != r["case_dtype"] else "")
        name += f" {r['variant']}" if "variant" in r else ""
        if figure not in r:
            print(f"  {name:20}{'skipped: ' + r['skipped'] if 'skipped' in r else 'FAILED: ' + str(r.get('failed'))}")
            continue
        f = r[figure]
        whole = f"{r['seconds']['median']:10.3f}{r.get('compile_seconds', 0):11.2f}" if "seconds" in r else " " * 21
        value = f"{r['value']:22.6f}" if "value" in r else " " * 22
        ratio = f"{f['median'] / base:10.2f} x" if base and r is not ours else " " * 12
        print(f"  {name:20}{f['median']:17.4g}{f['min']:10.4g} ..{f['max']:8.4g}{whole}{value}{ratio}{_doubts(r)}")


def _doubts(record: Record) -> str:
    """What a reader must not miss."""
    doubts = []
    if record.get("equal_iterations") is False:
        doubts.append(f"ITERATIONS DIFFER: {record['iterations_done']}")
    if record.get("agrees") is False:
        doubts.append(f"VALUE DIFFERS from {record['reference']}'s by {record['deviation']:.1e}")
    return "  !! " + "; ".join(doubts) if doubts else ""
