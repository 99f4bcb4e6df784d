"""How fits went, and how candidates compare."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgmm._status import UsageError, choose
from jaxgmm.em.result import SweepResult
from jaxgmm.plot._canvas import INK, PALE, PALETTE, axes_of, legend, look, thin

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Numbers of a row of `SweepResult.table` that a model is not chosen by.
_NO_CRITERIA = ("covariance_type", "n_components", "n_parameters", "n_iter", "best_share", "status")
_LARGER_IS_BETTER = ("silhouette", "log_likelihood")


def history(fit: Any, *, ax: Axes | None = None) -> Axes:
    """The log-likelihood of every restart after 0, 1, 2 … iterations: the winner in colour, the others grey.

    fit: a `FitResult`, a fitted `GaussianMixture`, or a `Model` that keeps its history. ax: axes of two dimensions, or
    None for new ones.

    Returns the axes. Raises `UsageError` E158 for a mixture that keeps no history.

    >>> from matplotlib.figure import Figure
    >>> result = jaxgmm.fit(np.array([[0.0], [1.0], [5.0], [6.0]]), 2, key=0, n_restarts=2)
    >>> ax = history(result, ax=Figure().subplots())
    >>> bool((ax.lines[-1].get_ydata() == result.history).all())
    True
    """
    curves, best = _curves(fit)
    ax = axes_of(ax)
    from matplotlib.collections import LineCollection
    from matplotlib.ticker import MaxNLocator

    paths = [_path(curve) for r, curve in enumerate(curves) if r != best]
    paths = [path for path in paths if len(path)]
    if paths:
        others = LineCollection(paths, colors=PALE, linewidths=0.8, zorder=1, label=f"{len(curves) - 1} other restarts")
        ax.add_collection(others)
    winner = _path(curves[best])
    label = f"restart {best}, the best" if len(curves) > 1 else None
    mark = "o" if len(winner) < 2 else ""
    ax.plot(*winner.T, color=PALETTE[0], linewidth=2.2, marker=mark, zorder=3, label=label)
    ax.autoscale_view()
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("iteration")
    ax.set_ylabel("log-likelihood")
    thin(ax)
    legend(ax, loc="lower right")
    return ax


def known_history(fit: Any) -> tuple[np.ndarray, int] | None:
    """Curves (R, T) and the winner, or None where they are not kept."""
    holder: Any
    for holder in (fit, getattr(fit, "result_", None)):
        if hasattr(holder, "restart_history"):
            return np.asarray(holder.restart_history, np.float64), int(holder.best_restart)
    kept = getattr(fit, "history", None)
    if kept is None or not hasattr(kept, "log_likelihood"):
        return None
    return np.asarray(kept.log_likelihood, np.float64), int(kept.best)


def _curves(fit: Any) -> tuple[np.ndarray, int]:
    found = known_history(fit)
    if found is None or not np.isfinite(found[0]).any():
        raise UsageError("E158", "this model keeps no history", "fit it again with this version, or pass the FitResult")
    return found


def _path(curve: np.ndarray) -> np.ndarray:
    """The finite part of one curve as points (T, 2)."""
    steps = np.flatnonzero(np.isfinite(curve))
    return np.stack([steps.astype(np.float64), curve[steps]], axis=1)


def criteria(sweep: Any, *, criterion: str | None = None, ax: Axes | None = None) -> Axes:
    """A criterion against the number of components, one line for each covariance type; a star marks the winner.

    Candidates whose fit failed are left out.

    sweep: a `SweepResult`, or a `Model` that was chosen by a sweep, or its ``meta``. criterion: the name of a number
    of ``SweepResult.table()``, by default the one that was chosen by; smaller is better, except for ``"silhouette"``
    and ``"log_likelihood"``. ax: axes of two dimensions, or None for new ones.

    Returns the axes. Raises `UsageError` E158 for what does not come from a sweep, E109 for an unknown criterion.

    >>> from matplotlib.figure import Figure
    >>> table = [{"covariance_type": "full", "n_components": 1, "bic": 90.0},
    ...          {"covariance_type": "full", "n_components": 2, "bic": 70.0},
    ...          {"covariance_type": "tied", "n_components": 2, "bic": 75.0}]
    >>> ax = criteria({"criterion": "bic", "table": table}, ax=Figure().subplots())
    >>> [line.get_label() for line in ax.lines[:2]], ax.get_ylabel(), ax.texts[0].get_text()
    (['full', 'tied'], 'BIC', 'full, 2')
    """
    chosen_by, table = _table(sweep)
    name = chosen_by if criterion is None else criterion
    known = [key for key in dict.fromkeys(key for row in table for key in row) if key not in _NO_CRITERIA]
    if name not in known:
        raise UsageError("E109", f"this sweep has no criterion {name!r}", choose(name, known))
    cells = [(row["covariance_type"], row["n_components"], float(row[name])) for row in table if _is_finite(row, name)]
    if not cells:
        raise UsageError("E158", f"no candidate of this sweep has a {name}", f"choose one of {', '.join(known)}")
    ax = axes_of(ax)
    from matplotlib.ticker import MaxNLocator

    for place, family in enumerate(dict.fromkeys(family for family, _, _ in cells)):
        points = sorted((n, value) for other, n, value in cells if other == family)
        style = look(place)
        ax.plot(
            *zip(*points, strict=True),
            color=style.colour,
            marker=style.marker,
            linestyle=style.line,
            linewidth=1.5,
            markersize=5,
            label=family,
        )
    larger = name in _LARGER_IS_BETTER
    family, n, value = (max if larger else min)(cells, key=lambda cell: cell[2])
    ax.plot([n], [value], "*", markersize=16, color="none", markeredgecolor=INK, markeredgewidth=1.3, zorder=4)
    ax.margins(0.08, 0.32)
    # The text stands on the side where the lines are not.
    ax.annotate(
        f"{family}, {n}",
        (n, value),
        xytext=(0, 12 if larger else -12),
        textcoords="offset points",
        ha="center",
        va="bottom" if larger else "top",
        fontsize="small",
        color=INK,
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("components")
    ax.set_ylabel(name.upper() if len(name) == 3 else name.replace("_", "-"))
    thin(ax)
    legend(ax)
    return ax


def known_sweep(sweep: Any) -> tuple[str, list[dict[str, Any]]] | None:
    """The criterion and the rows of the table, or None where there was no sweep."""
    if isinstance(sweep, SweepResult):
        return sweep.criterion, sweep.table()
    meta = sweep if isinstance(sweep, dict) else getattr(sweep, "meta", None)
    if not isinstance(meta, dict):
        return None
    kept = meta.get("sweep", meta)
    if not isinstance(kept, dict) or not isinstance(kept.get("table"), list) or not kept["table"]:
        return None
    return str(kept.get("criterion")), kept["table"]


def _table(sweep: Any) -> tuple[str, list[dict[str, Any]]]:
    found = known_sweep(sweep)
    if found is None:
        raise UsageError("E158", "this model keeps no sweep", "pass the SweepResult, or a model that a sweep chose")
    return found


def _is_finite(row: dict[str, Any], name: str) -> bool:
    value = row.get(name)
    return isinstance(value, (int, float)) and math.isfinite(value)
