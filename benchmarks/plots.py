"""Log-log plots of the scaling series, and the times of one EM iteration in the cases with a target side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.measure import Record
from benchmarks.verdicts import doubts, figure_of, latest
from jaxgmm.plot import benchmark

# What a series varies: in a record, and to `jaxgmm.plot.benchmark`.
AXES = {"n_samples": "N", "n_features": "D", "n_components": "K", "n_restarts": "restarts"}
STYLES = {
    "jaxgmm": ("#0072b2", "o"),
    "numpy": ("#777777", "s"),
    "scikit-learn": ("#e69f00", "^"),
    "gmmx": ("#009e73", "v"),
    "pomegranate": ("#d55e00", "D"),
    "torchgmm": ("#cc79a7", "P"),
}
FORMATS = ("png", "svg")


def draw(records: Sequence[Record], report: Path) -> list[Path]:
    """A figure of the cases, one for each series and dtype, as PNG and SVG beside `report`; returns the PNG files."""
    figures = {}
    cases = [mine for mine in latest(records).values() if _is_fit(mine)]
    if cases:
        figures["iterations"] = _side_by_side(cases)
    series: dict[tuple[str, str], list[Record]] = {}
    for mine in latest(records).values():
        for record in mine:
            if record["series"] and figure_of(record) is not None:
                series.setdefault((record["series"], record["case_dtype"]), []).append(record)
    figures |= {f"{axis}-{dtype}": _figure(axis, dtype, found) for (axis, dtype), found in series.items()}
    paths = []
    for name, figure in figures.items():
        for kind in FORMATS:
            path = report.with_name(f"{report.stem}-{name}.{kind}")
            figure.savefig(path, dpi=150)
        paths.append(path.with_suffix(".png"))
    return paths


def _is_fit(records: Sequence[Record]) -> bool:
    first = records[0]
    return first["task"] == "em" and bool(first["targets"]) and first["figure"] == "ms_per_iteration"


def _side_by_side(cases: Sequence[Sequence[Record]]) -> Figure:
    """A line for each case, on it the time of every library in its fastest type."""
    figure = Figure(figsize=(8.0, 0.42 * len(cases) + 1.5), layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    named = set()
    for row, records in enumerate(cases):
        fastest: dict[str, float] = {}
        for r in records:
            ours_in_another_type = r["contestant"] == "jaxgmm" and r["dtype"] != r["case_dtype"]
            if figure_of(r) is None or doubts(r, value_too=False) or ours_in_another_type:
                continue
            name, median = r["contestant"], r["ms_per_iteration"]["median"]
            fastest[name] = min(median, fastest.get(name, median))
        ax.plot([min(fastest.values()), max(fastest.values())], [row, row], color="#cccccc", zorder=1)
        for name, value in fastest.items():
            colour, marker = STYLES[name]
            label = None if name in named else name
            named.add(name)
            ax.plot(value, row, marker=marker, color=colour, label=label, linestyle="none", markersize=8, zorder=2)
    ax.set_yticks(range(len(cases)), [records[0]["size"] for records in cases])
    ax.invert_yaxis()
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:,g}")
    ax.set_xlabel("milliseconds per EM iteration")
    about = cases[0][0]["machine"]
    ax.set_title(f"{about['processor']}, {about['cores']} cores, {about['date'][:10]}", fontsize=10)
    ax.grid(True, axis="x", which="major", alpha=0.3)
    handles, labels = ax.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: list(STYLES).index(labels[i]))
    sorted_legend = [handles[i] for i in order], [labels[i] for i in order]
    figure.legend(*sorted_legend, loc="outside lower center", ncols=6, fontsize=9)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return figure


def _figure(axis: str, dtype: str, records: Sequence[Record]) -> Figure:
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    sound = [r for r in records if not doubts(r, value_too=False)]
    ax = benchmark(sound, against=AXES[axis], ax=figure.subplots())
    roof = sorted({(r[axis], r["roofline_ms"]) for r in records if r["dtype"] == dtype and "roofline_ms" in r})
    if roof:
        ax.plot(*zip(*roof, strict=True), color="black", linestyle=":", label="roofline")
        ax.legend(fontsize=8)
    ax.set_title(_fixed(records[0], axis, dtype), fontsize=10)
    return figure


def _fixed(record: Record, axis: str, dtype: str) -> str:
    """What does not vary along a series."""
    sizes = [f"{name} {record[key]:,}" for key, name in AXES.items() if key != axis]
    about = record["machine"]
    where = f"{about['processor']}, {about['device']}, {about['date'][:10]}"
    return f"{', '.join(sizes)}, {record['covariance_type']}, {dtype}\n{where}"
