"""One figure for a file: the data with the mixture, how the fit went, and how it was chosen."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgmm.model import Model
from jaxgmm.plot._canvas import legend, plotting, thin
from jaxgmm.plot._density import MAX_RUG, draw_density
from jaxgmm.plot._ellipses import draw_ellipses
from jaxgmm.plot._fits import criteria, history, known_history, known_sweep
from jaxgmm.plot._mixture import as_model, marginal, names_of, some_rows
from jaxgmm.plot._pairs import draw_pairs
from jaxgmm.plot._scatter import draw_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Columns in the matrix of panels, and points in a panel.
_FEATURES = 3
_MAX_POINTS = 5_000


def overview(mixture: Any, x: Any = None, *, figure: Figure | None = None) -> Figure:
    """One figure that says what a fit came to, for a file; it never needs a display.

    On the left the data with the mixture: the density of one column, ellipses over two (of two standard deviations,
    without data also of one), or panels of three of more. On the right the log-likelihood of every iteration
    and the criteria of a sweep, where they are known. The panels are of the three columns that separate most, those
    with the largest variance between components beside that within.

    mixture: see `jaxgmm.plot`. x: (N, D), data units, or None; of more than 5,000 rows a random choice is drawn as
    points, always the same one. figure: an empty figure or subfigure to draw on, or None for a new one, which pyplot
    does not know.

    Returns the figure. Raises `DataError` E210 for another number of columns than the mixture has.

    >>> mixture = jaxgmm.make_params([1.0], [[0.0, 0.0]], [[4.0, 1.0]], "diag")
    >>> figure = overview(mixture)
    >>> len(figure.axes), figure.get_suptitle()
    (1, '1 component, diag covariance, 2 features')
    """
    model = as_model(mixture)
    names = names_of(model, model.n_features, None, x)
    rows = chosen = None
    remark = ""
    if x is not None:
        rows, chosen, remark = some_rows(x, model, _MAX_POINTS)
    beside = _beside(mixture, model)
    if figure is None:
        with plotting():
            from matplotlib.figure import Figure

            figure = Figure(figsize=(10.0 if beside else 6.4, 5.2), layout="constrained")
    whole = figure.add_gridspec(1, 2 if beside else 1, width_ratios=[1.6, 1.0] if beside else [1.0])
    _mixture(figure, whole[0, 0], model, names, rows, chosen)
    if beside:
        column = whole[0, 1].subgridspec(len(beside), 1)
        for place, (draw, source) in enumerate(beside):
            draw(source, ax=figure.add_subplot(column[place, 0]))
    figure.suptitle(", ".join(filter(None, [_title(model), remark])), fontsize="medium")
    return figure


def _beside(mixture: Any, model: Model) -> list[tuple[Any, Any]]:
    """What goes to the right: functions that draw, and what of."""
    found: list[tuple[Any, Any]] = []
    for source in (mixture, model):
        known = known_history(source)
        if known is not None and np.isfinite(known[0]).any():
            found.append((history, source))
            break
    sweep = known_sweep(model)
    if sweep is not None:
        found.append((criteria, model))
        if sweep[0] == "silhouette":
            # It asks another question than the likelihood does, and often has another answer.
            found.append((partial(criteria, criterion="bic"), model))
    return found


def _mixture(figure: Any, place: Any, model: Model, names: list[str], rows: Any, chosen: Any) -> None:
    """The data with the mixture, on a part of the figure."""
    if model.n_features > 2:
        n, columns = _FEATURES, _telling(model)
        grid = place.subgridspec(n, n)
        panels = np.empty((n, n), dtype=object)
        for i, j in np.ndindex(n, n):
            panels[i, j] = figure.add_subplot(grid[i, j])
        draw_pairs(panels, model, names, columns, rows, chosen)
        return
    ax = figure.add_subplot(place)
    ax.set_xlabel(names[0])
    if model.n_features == 1:
        values = None if rows is None else rows[:, 0].astype(np.float64)
        rug = None if chosen is None else chosen[:: -(-len(chosen) // MAX_RUG)]
        draw_density(ax, marginal(model, [0]), values, rug=rug)
        ax.set_ylabel("density")
        legend(ax)
        return
    plane = marginal(model, [0, 1])
    if rows is not None:
        draw_rows(ax, rows[chosen], [0, 1], model)
    draw_ellipses(ax, plane, 2.0 if rows is not None else (1.0, 2.0))
    ax.set_ylabel(names[1])
    thin(ax)


def _telling(model: Model) -> list[int]:
    """The columns along which the components lie farthest apart beside their own widths, in their order."""
    whole = marginal(model, range(model.n_features))
    share = whole.weights / whole.weights.sum()
    # Squares of 1e200 would overflow.
    size = np.abs(whole.means).max(axis=0) + whole.deviations.max(axis=0)
    means, deviations = whole.means / size, whole.deviations / size
    between = share @ (means - share @ means) ** 2
    apart = between / (share @ deviations**2)
    return sorted(np.argsort(-apart, kind="stable")[:_FEATURES].tolist())


def _title(model: Model) -> str:
    k, d = model.n_components, model.n_features
    shown = f", the {_FEATURES} that separate most shown" if d > _FEATURES else ""
    return f"{k} component{'s' * (k != 1)}, {model.covariance_type} covariance, {d} feature{'s' * (d != 1)}{shown}"
