"""Log-log plots of the scaling series: time of one iteration against N, K and D, of a whole call against restarts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.measure import Record
from benchmarks.verdicts import doubts, figure_of, latest

AXES = {
    "n_samples": "rows N",
    "n_features": "features D",
    "n_components": "components K",
    "n_restarts": "restarts",
}
# One colour and marker per library; float32 beside a float64 case is dashed.
STYLES = {
    "jaxgmm": ("#1f77b4", "o"),
    "numpy": ("#7f7f7f", "s"),
    "scikit-learn": ("#ff7f0e", "^"),
    "gmmx": ("#2ca02c", "v"),
    "pomegranate": ("#d62728", "D"),
    "torchgmm": ("#9467bd", "P"),
}
FORMATS = ("png", "svg")
Points = dict[tuple[str, str], list[tuple[float, float, float, float]]]


def draw(records: Sequence[Record], report: Path) -> list[Path]:
    """One figure for each series and dtype as PNG and SVG beside `report`; returns the PNG files."""
    series: dict[tuple[str, str], list[Record]] = {}
    for mine in latest(records).values():
        for record in mine:
            if record["series"] and figure_of(record) is not None:
                series.setdefault((record["series"], record["case_dtype"]), []).append(record)
    paths = []
    for (axis, dtype), found in series.items():
        figure = _figure(axis, dtype, found)
        for kind in FORMATS:
            path = report.with_name(f"{report.stem}-{axis}-{dtype}.{kind}")
            figure.savefig(path, dpi=150)
        paths.append(path.with_suffix(".png"))
    return paths


def _figure(axis: str, dtype: str, records: Sequence[Record]) -> Figure:
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    lines: Points = {}
    for r in records:
        if not doubts(r, value_too=False):
            f = r[r["figure"]]
            point = (r[axis], f["median"], max(f["min"], f["median"] / 10), f["max"])
            lines.setdefault((r["contestant"], r["dtype"]), []).append(point)
    for (name, own), points in sorted(lines.items(), key=lambda item: list(STYLES).index(item[0][0])):
        colour, marker = STYLES[name]
        x, y, low, high = zip(*sorted(points), strict=True)
        label = name if own == dtype else f"{name} {own}"
        ax.plot(x, y, marker=marker, color=colour, linestyle="-" if own == dtype else "--", label=label, markersize=5)
        ax.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
    roof = sorted({(r[axis], r["roofline_ms"]) for r in records if r["dtype"] == dtype and "roofline_ms" in r})
    if roof:
        ax.plot(*zip(*roof, strict=True), color="black", linestyle=":", label="roofline")
    ax.set_xscale("log", base=10 if axis == "n_samples" else 2)
    ax.xaxis.set_major_formatter("{x:,g}")
    ax.set_yscale("log")
    ax.set_xlabel(AXES[axis])
    whole = records[0]["figure"] == "seconds"
    ax.set_ylabel("seconds, whole call" if whole else "milliseconds per EM iteration")
    ax.set_title(_fixed(records[0], axis, dtype), fontsize=10)
    ax.grid(True, which="major", alpha=0.3)
    ax.legend(fontsize=8)
    return figure


def _fixed(record: Record, axis: str, dtype: str) -> str:
    """What does not vary along a series."""
    names = {"n_samples": "N", "n_features": "D", "n_components": "K", "n_restarts": "restarts"}
    sizes = [f"{name} {record[key]:,}" for key, name in names.items() if key != axis]
    about = record["machine"]
    where = f"{about['processor']}, {about['device']}, {about['date'][:10]}"
    return f"{', '.join(sizes)}, {record['covariance_type']}, {dtype}\n{where}"
