"""Densities of one column and of two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgmm._checks import check_count
from jaxgmm._status import UsageError
from jaxgmm.plot._canvas import GREY, INK, PALE, axes_of, legend, look, note, thin
from jaxgmm.plot._mixture import Marginal, as_model, exactly, marginal, names_of, some_rows
from jaxgmm.plot._scatter import draw_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_RUG = 500
_MAX_BINS = 200
_MIN_BINS = 50
_GRID = 400
_PLANE_GRID = 120
_NARROW = 12
_DRAWS = 20_000
# Share of the mixture inside the outermost contour.
_OUTERMOST = 0.99


def density_1d(
    mixture: Any,
    x: Any = None,
    *,
    feature: int | str = 0,
    bins: int | str = "auto",
    ax: Axes | None = None,
) -> Axes:
    """The density of one column under the mixture, that of each component, and a histogram of the data.

        p(x) = Σ_k w_k N(x | μ_k, σ_k²)

    w_k, μ_k, σ_k: weight, mean and standard deviation of component k in that column. The thick line is p, the others
    are the terms of its sum. Below the histogram, of area 1, at most 500 rows are marked one by one. Without data the
    axis spans the means ± 4 σ_k.

    mixture: see `jaxgmm.plot`. x: (N, D) in data units with all D columns of the mixture, or None. feature: the column,
    number or name. bins: how many bars, or ``"auto"``: from the interquartile range and N (Freedman and Diaconis), at
    least √N or 50 and at most 200. ax: axes of two dimensions, or None for new ones.

    Returns the axes. Raises `UsageError` E130 for a column that does not exist, E108 for unusable `bins`; `DataError`
    E210 for another number of columns than the mixture has.

    >>> from matplotlib.figure import Figure
    >>> mixture = jaxgmm.make_params([0.5, 0.5], [[0.0], [4.0]], [[1.0], [1.0]], "diag")
    >>> [line.get_label() for line in density_1d(mixture, ax=Figure().subplots()).lines]
    ['component 0', 'component 1', 'mixture']
    """
    model = as_model(mixture)
    names = names_of(model, model.n_features, None, x)
    column = exactly(1, feature, names, "this density")[0]
    if bins != "auto":
        bins = check_count(bins, "bins")
    values = rug = None
    if x is not None:
        rows, chosen, _ = some_rows(x, model, MAX_RUG)
        values, rug = rows[:, column].astype(np.float64), chosen
    ax = axes_of(ax)
    draw_density(ax, marginal(model, [column]), values, rug=rug, bins=bins)
    ax.set_xlabel(names[column])
    ax.set_ylabel("density")
    legend(ax)
    return ax


def draw_density(
    ax: Any, line: Marginal, values: np.ndarray | None, *, rug: np.ndarray | None = None, bins: int | str = "auto"
) -> None:
    """Histogram, rug and lines; `rug`: the numbers of the rows to mark."""
    low, high = line.reach(0)
    if values is not None:
        heights, edges = _histogram(values, bins, float(line.deviations.min()))
        low, high = edges[0], edges[-1]
        margin = 0.04 * (high - low)
        low, high = low - margin, high + margin
        ax.stairs(heights, edges, fill=True, facecolor=PALE, edgecolor="white", linewidth=0.4, label="data", zorder=1)
    if rug is not None and values is not None:
        # In fractions of the axes upward, so that the height of the density does not matter.
        ax.vlines(values[rug], 0.0, 0.02, transform=ax.get_xaxis_transform(), color=GREY, linewidth=0.5, zorder=2)
    grid = _grid(line, low, high)
    terms = np.exp(line.log_densities(grid[:, None]))
    for k, index in enumerate(line.indices):
        style = look(int(index))
        ax.plot(grid, terms[k], color=style.colour, linestyle=style.line, linewidth=1.4, label=f"component {index}")
    ax.plot(grid, terms.sum(axis=0), color=INK, linewidth=2.2, label="mixture", zorder=3)
    ax.set_xlim(low, high)
    ax.set_ylim(bottom=0.0)
    thin(ax)


def contours(
    mixture: Any,
    x: Any = None,
    *,
    features: Sequence[int | str] = (0, 1),
    levels: int | Sequence[float] = 12,
    ax: Axes | None = None,
) -> Axes:
    """Lines of equal log-density of the marginal over two columns, each around a known share of the mixture.

        {x : log p(x) ≥ ℓ_c},   P(log p(X) ≥ ℓ_c) = c

    p: density of the two columns; c: the share of the mixture inside. The region is the smallest one that holds the
    share c (Hyndman 1996). ℓ_c is the (1 − c)-quantile of log p at 20,000 draws from the mixture, always the same ones.

    mixture: see `jaxgmm.plot`. x: (N, D) in data units, drawn as points beneath, or None. features: two columns,
    numbers or names. levels: how many lines, with shares evenly spaced up to 0.99, or the shares themselves, between 0
    and 1. ax: axes of two dimensions, or None for new ones.

    Returns the axes. Raises `UsageError` E157 for another number of columns, E108 for levels that are neither;
    `DataError` E210 for another number of columns than the mixture has.

    >>> from matplotlib.figure import Figure
    >>> mixture = jaxgmm.make_params([1.0], [[0.0, 0.0]], [[1.0, 1.0]], "diag")
    >>> ax = contours(mixture, levels=[0.5], ax=Figure().subplots())
    >>> ax.collections[0].levels.round(1).tolist()  # log(0.5 / 2π)
    [-2.5]
    """
    model = as_model(mixture)
    names = names_of(model, model.n_features, None, x)
    columns = exactly(2, features, names, "a contour")
    shares = _shares(levels)
    remark = ""
    rows = chosen = None
    if x is not None:
        rows, chosen, remark = some_rows(x, model)
    ax = axes_of(ax)
    if rows is not None:
        draw_rows(ax, rows[chosen], columns)
    draw_contours(ax, marginal(model, columns), shares)
    ax.set_xlabel(names[columns[0]])
    ax.set_ylabel(names[columns[1]])
    note(ax, remark)
    thin(ax)
    return ax


def draw_contours(ax: Any, plane: Marginal, shares: np.ndarray) -> None:
    """The lines around `shares` of a marginal over two columns."""
    from matplotlib import colormaps

    heights = np.unique(np.quantile(plane.log_density(plane.sample(_DRAWS)), 1.0 - shares))
    across, up = (_grid(plane, *plane.reach(d), column=d, n=_PLANE_GRID) for d in (0, 1))
    points = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    surface = plane.log_density(points).reshape(len(up), len(across))
    shades = colormaps["Blues"](np.linspace(0.45, 1.0, len(heights)))
    ax.contour(across, up, surface, levels=heights, colors=shades, linestyles="solid", linewidths=1.2, zorder=3)


def _shares(levels: Any) -> np.ndarray:
    if isinstance(levels, (int, np.integer)):
        n = check_count(levels, "levels")
        return np.linspace(_OUTERMOST / n, _OUTERMOST, n)
    shares = np.asarray(levels)
    if shares.ndim != 1 or not len(shares) or shares.dtype.kind != "f" or not ((shares > 0) & (shares < 1)).all():
        found = f"levels must be a whole number or shares between 0 and 1, got {levels!r}"
        raise UsageError("E108", found, "for example levels=[0.5, 0.9]")
    return np.asarray(shares, np.float64)


def _grid(line: Marginal, low: float, high: float, column: int = 0, n: int = _GRID) -> np.ndarray:
    """Places between the limits: evenly spaced ones, and more about the narrowest components, which those may miss."""
    even = np.linspace(low, high, n)
    narrow = np.argsort(line.deviations[:, column])[:_NARROW]
    few = line.means[narrow, column, None] + line.deviations[narrow, column, None] * np.linspace(-3, 3, 13)
    return np.unique(np.concatenate([even, few[(few > low) & (few < high)]]))


def _histogram(values: np.ndarray, bins: int | str, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Heights (B) and edges (B + 1) of a histogram of area 1; `width`: of the bar where all values are equal."""
    low, high = float(values.min()), float(values.max())
    if not high - low > 64 * np.spacing(max(abs(low), abs(high))):
        half = max(width, 1e-6 * abs(low))
        low, high, bins = low - half, high + half, 1
    if isinstance(bins, str):
        quarter, three = np.quantile(values, [0.25, 0.75])
        bar = 2 * (three - quarter) * len(values) ** (-1 / 3)
        wanted = (high - low) / bar if bar > 0 else 0.0
        # Several clusters have a large interquartile range, and would get too few bars.
        bins = int(np.clip(np.ceil(max(wanted, min(np.sqrt(len(values)), _MIN_BINS))), 1, _MAX_BINS))
    edges = np.linspace(low, high, bins + 1)
    counts, _ = np.histogram(values, edges)
    return counts / (counts.sum() * np.diff(edges)), edges
