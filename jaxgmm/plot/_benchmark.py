"""Times of the benchmarks against the size of the problem."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from jaxgmm._status import UsageError, choose
from jaxgmm.plot._canvas import axes_of, legend, look, thin

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What is on the axis: the name in a record, and in words.
_AXES = {
    "N": ("n_samples", "rows N"),
    "D": ("n_features", "features D"),
    "K": ("n_components", "components K"),
    "restarts": ("n_restarts", "restarts"),
}
_SIZES = {key: name for name, (key, _) in _AXES.items()}
_FIGURES = {"ms_per_iteration": "milliseconds per EM iteration", "seconds": "seconds, whole call"}


def benchmark(records: Iterable[Mapping[str, Any]], *, against: str = "N", ax: Axes | None = None) -> Axes:
    """Time against the size of the problem, both axes logarithmic, one line for each contestant.

    A point is the median of the repetitions, the band beside it their range. Left out are contestants that failed, were
    skipped or did another number of iterations. The last record of a case wins.

    records: dictionaries as in the files of ``benchmarks/results``. against: ``"N"`` rows, ``"D"`` features, ``"K"``
    components or ``"restarts"``. Where records belong to a series along that size, they alone are drawn; else all, in
    lines along which nothing else varies. ax: axes of two dimensions, or None for new ones.

    Returns the axes. Raises `UsageError` E109 for another `against`, E140 where no record has a time.

    >>> from matplotlib.figure import Figure
    >>> records = [{"case": f"n{n}", "contestant": "jaxgmm", "dtype": "float64", "figure": "seconds", "n_samples": n,
    ...             "seconds": {"median": n / 1e6, "min": n / 2e6, "max": n / 5e5}} for n in (1000, 10000)]
    >>> ax = benchmark(records, ax=Figure().subplots())
    >>> ax.lines[0].get_label(), ax.lines[0].get_ydata().tolist(), ax.get_xscale()
    ('jaxgmm', [0.001, 0.01], 'log')
    """
    if against not in _AXES:
        raise UsageError("E109", f"there is no axis {against!r}", choose(against, list(_AXES)))
    key, words = _AXES[against]
    found = _usable(records, key)
    if not found:
        raise UsageError("E140", f"no record has a time against {against}", "give records of the benchmarks")
    figure = found[0]["figure"]  # times of an iteration and of a whole call do not mix
    found = [record for record in found if record["figure"] == figure]
    facts = [name for name in (*_SIZES, "covariance_type", "case_dtype") if name != key]
    varying = [name for name in facts if len({record.get(name) for record in found}) > 1]
    lines: dict[tuple[str, ...], list[tuple[float, ...]]] = {}
    for record in found:
        values = record[figure]
        median = values["median"]
        # A difference of two times can come out at or below zero, which has no logarithm.
        point = (record[key], median, max(values.get("min", median), median / 10), values.get("max", median))
        lines.setdefault(_label(record, varying), []).append(point)
    ax = axes_of(ax)
    contestants = list(dict.fromkeys(sorted((label[0] for label in lines), key=lambda name: (name != "jaxgmm", name))))
    for place, label in enumerate(sorted(lines, key=lambda label: (contestants.index(label[0]), label))):
        x, y, low, high = zip(*sorted(lines[label]), strict=True)
        style = look(place)
        ax.plot(
            x, y, color=style.colour, marker=style.marker, linestyle=style.line, markersize=5, label=", ".join(label)
        )
        ax.fill_between(x, low, high, color=style.colour, alpha=0.12, linewidth=0)
    ax.set_xscale("log", base=10 if against == "N" else 2)
    ax.set_yscale("log")
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.set_xlabel(words)
    ax.set_ylabel(_FIGURES[figure])
    fixed = [_fact(found[0], name) for name in facts if name not in varying and name in found[0]]
    ax.set_title(", ".join(fixed), fontsize="medium")
    ax.grid(True, which="major", alpha=0.3)
    thin(ax)
    legend(ax, limit=24)
    return ax


def _usable(records: Iterable[Mapping[str, Any]], key: str) -> list[Mapping[str, Any]]:
    """The last record of each case, contestant and dtype that has a time and this size; of the series, if there is."""
    latest: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for record in records:
        if not isinstance(record, Mapping):
            raise UsageError("E145", f"a {type(record).__name__} is no record", "give dictionaries, one a measurement")
        latest[tuple(record.get(name) for name in ("case", "contestant", "dtype", "variant"))] = record
    found = [record for record in latest.values() if record.get(key) and _has_time(record)]
    return [record for record in found if record.get("series") == key] or found


def _has_time(record: Mapping[str, Any]) -> bool:
    figure = record.get("figure")
    if figure not in _FIGURES or not {"failed", "skipped"}.isdisjoint(record):
        return False
    times = record.get(figure)
    return isinstance(times, Mapping) and times.get("median", 0) > 0 and record.get("equal_iterations") is not False


def _label(record: Mapping[str, Any], varying: list[str]) -> tuple[str, ...]:
    """Contestant, precision where it is not the case's, variant, and whatever else tells one line from another."""
    own = record.get("dtype", "")
    parts = [str(record.get("contestant", "")), own if own != record.get("case_dtype", own) else ""]
    parts += [str(record.get("variant", "")), *(_fact(record, name) for name in varying)]
    return tuple(part for part in parts if part)


def _fact(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    return f"{_SIZES[name]} {value:,}" if name in _SIZES and isinstance(value, int) else str(value)
