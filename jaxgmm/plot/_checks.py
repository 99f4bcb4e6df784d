"""Does one column of the data look as the mixture says? Quantiles and distribution functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgmm.model import Model
from jaxgmm.plot._canvas import GREY, INK, PALETTE, axes_of, legend, note, thin
from jaxgmm.plot._mixture import Marginal, as_model, exactly, marginal, names_of, some_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Points of a curve; more are not seen.
_MAX_CURVE = 1_000
_CONFIDENCE = 0.95
# Halvings of the bracket of a quantile: from a thousand deviations to rounding.
_HALVINGS = 70


def qq(mixture: Any, x: Any, *, feature: int | str = 0, ax: Axes | None = None) -> Axes:
    """Quantiles of one column of the data against those of the mixture, with the line on which they are equal.

        (F⁻¹((i − ½) / N), x_(i)),   i = 1 … N

    F: the mixture's distribution function of that column, inverted by bisection; x_(i): the i-th smallest value. Where
    the data come from the mixture, each point lies in the band with probability 95 %: F(x_(i)) then has the
    Beta(i, N − i + 1) distribution. The band holds point by point, not for all points at once, and does not know that
    the mixture was fitted to the same data, which draws the points nearer. Of more than 1,000 rows, 1,000 evenly spaced
    order statistics are drawn.

    mixture: see `jaxgmm.plot`. x: (N, D), data units. feature: the column, number or name. ax: axes of two dimensions,
    or None for new ones.

    Returns the axes. Raises `UsageError` E130 for a column that does not exist; `DataError` E210 for another number of
    columns than the mixture has.

    >>> from matplotlib.figure import Figure
    >>> mixture = jaxgmm.make_params([1.0], [[0.0]], [[1.0]], "diag")
    >>> ax = qq(mixture, [[-0.5], [0.1], [2.0]], ax=Figure().subplots())
    >>> ax.lines[-1].get_xdata().round(3).tolist(), ax.lines[-1].get_ydata().tolist()
    ([-0.967, 0.0, 0.967], [-0.5, 0.1, 2.0])
    """
    _, name, line, values = _column(mixture, x, feature)
    ax = axes_of(ax)
    from scipy.special import betaincinv

    n = len(values)
    rank = _spread(n)
    ours = quantiles(line, (rank + 0.5) / n)
    band = [betaincinv(rank + 1.0, n - rank, (1.0 + side * _CONFIDENCE) / 2.0) for side in (-1, 1)]
    low, high = (quantiles(line, p) for p in band)
    ax.fill_between(ours, low, high, color=GREY, alpha=0.25, linewidth=0, label="95 % of each point")
    ends = [float(min(ours[0], values[0])), float(max(ours[-1], values[-1]))]
    ax.plot(ends, ends, color=INK, linewidth=1.0, linestyle="--", label="equal")
    ax.plot(ours, values[rank], "o", markersize=3.5, color=PALETTE[0], markeredgewidth=0, label="data")
    ax.set_xlabel(f"{name}, quantiles of the mixture")
    ax.set_ylabel(f"{name}, quantiles of the data")
    thin(ax)
    note(ax, f"{len(rank):,} of {n:,} rows" if len(rank) < n else "")
    legend(ax, loc="upper left")
    return ax


def cdf(mixture: Any, x: Any, *, feature: int | str = 0, ax: Axes | None = None) -> Axes:
    """The share of rows below a value of one column, and what the mixture says of it.

        D = max_x |F_N(x) − F(x)|

    F: the mixture's distribution function of that column; F_N: the share of the N rows up to x; D: the distance of
    Kolmogorov and Smirnov, of all rows, marked where it is taken. Its usual significance levels do not hold for a
    mixture that was fitted to the same rows.

    mixture: see `jaxgmm.plot`. x: (N, D), data units. feature: the column, number or name. ax: axes of two dimensions,
    or None for new ones.

    Returns the axes. Raises the errors of `qq`.

    >>> from matplotlib.figure import Figure
    >>> mixture = jaxgmm.make_params([1.0], [[0.0]], [[1.0]], "diag")
    >>> ax = cdf(mixture, [[-1.0], [0.0], [1.0]], ax=Figure().subplots())
    >>> ax.texts[0].get_text()
    'D = 0.175'
    """
    _, name, line, values = _column(mixture, x, feature)
    ax = axes_of(ax)
    n = len(values)
    theirs = distribution(line, values)
    above, below = np.arange(1, n + 1) / n - theirs, theirs - np.arange(n) / n
    gaps = np.maximum(above, below)
    at = int(gaps.argmax())
    step = at + 1 if above[at] >= below[at] else at
    rank = _spread(n)
    low, high = min(line.reach(0)[0], values[0]), max(line.reach(0)[1], values[-1])
    ends = np.concatenate([[low], values[rank], [high]])
    ax.step(ends, np.concatenate([[0.0], (rank + 1) / n, [1.0]]), where="post", color=GREY, linewidth=2.2, label="data")
    grid = np.unique(np.concatenate([np.linspace(low, high, 400), quantiles(line, np.linspace(0.005, 0.995, 200))]))
    ax.plot(grid, distribution(line, grid), color=PALETTE[0], linestyle="--", linewidth=1.5, label="mixture")
    ax.plot([values[at]] * 2, [theirs[at], step / n], color=PALETTE[2], linewidth=2.5, zorder=4)
    ax.text(0.97, 0.05, f"D = {gaps[at]:.3g}", transform=ax.transAxes, ha="right", color=INK)
    ax.set_xlim(low, high)
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlabel(name)
    ax.set_ylabel("share of rows up to here")
    thin(ax)
    legend(ax, loc="upper left")
    return ax


def distribution(line: Marginal, points: np.ndarray) -> np.ndarray:
    """F at points (P): Σ_k w_k Φ((x − μ_k) / σ_k)."""
    from scipy.special import ndtr

    total = np.zeros(len(points))
    for weight, mean, deviation in zip(line.weights, line.means[:, 0], line.deviations[:, 0], strict=True):
        with np.errstate(under="ignore"):
            total += weight * ndtr((points - mean) / deviation)
    return total / line.weights.sum()


def quantiles(line: Marginal, shares: np.ndarray) -> np.ndarray:
    """F⁻¹ at shares (P) in (0, 1), by bisection."""
    from scipy.special import ndtri

    # Between the smallest and the largest of the components' own quantiles, both within rounding of a share of 0 or 1.
    own = line.means[:, :1] + line.deviations[:, :1] * ndtri(np.clip(shares, 1e-300, 1 - 1e-16))
    low, high = own.min(axis=0), own.max(axis=0)
    for _ in range(_HALVINGS):
        middle = low + 0.5 * (high - low)
        short = distribution(line, middle) < shares
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return np.asarray(low + 0.5 * (high - low))


def _column(mixture: Any, x: Any, feature: Any) -> tuple[Model, str, Marginal, np.ndarray]:
    """The model, the name of the column, its marginal and its values, ascending."""
    model = as_model(mixture)
    names = names_of(model, model.n_features, None, x)
    column = exactly(1, feature, names, "this plot")[0]
    rows, _, _ = some_rows(x, model)
    return model, names[column], marginal(model, [column]), np.sort(rows[:, column].astype(np.float64))


def _spread(n: int) -> np.ndarray:
    """Ranks from 0, at most `_MAX_CURVE` of them, the first and the last included."""
    return np.unique(np.linspace(0, n - 1, min(n, _MAX_CURVE)).round().astype(int))
