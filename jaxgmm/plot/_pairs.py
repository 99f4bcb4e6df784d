"""A matrix of panels: every column by itself, and every two of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgmm._checks import check_count
from jaxgmm._status import UsageError
from jaxgmm.model import Model
from jaxgmm.plot._canvas import axes_of, new_figure, thin
from jaxgmm.plot._density import MAX_RUG, draw_density
from jaxgmm.plot._ellipses import draw_ellipses
from jaxgmm.plot._mixture import as_model, columns_of, marginal, names_of, some_rows
from jaxgmm.plot._scatter import draw_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_FEATURES = 6
# Of a panel, which is small.
_MAX_POINTS = 4_000
_MAX_SHOWN = 24


def pairs(
    mixture: Any,
    x: Any = None,
    *,
    features: Sequence[int | str] | None = None,
    max_features: int = MAX_FEATURES,
    axes: Sequence[Sequence[Axes]] | np.ndarray | None = None,
) -> np.ndarray:
    """The columns one by one on the diagonal, and two by two below it.

    On the diagonal `density_1d`, below it rows coloured by their responsibilities and `ellipses` of two standard
    deviations; above it nothing.

    mixture: see `jaxgmm.plot`. x: (N, D), data units, or None; of more than 4,000 rows a random choice is drawn as
    points, always the same one, and the histograms count all. features: up to 24 columns, numbers or names; by default
    the first `max_features`, and what is left out is said above. axes: (F, F) axes for F columns, or None for a new
    figure.

    Returns the axes as an array (F, F). Raises `UsageError` E157 for more than 24 columns, or axes of another shape;
    `DataError` E210 for another number of columns than the mixture has.

    >>> from matplotlib.figure import Figure
    >>> mixture = jaxgmm.make_params([1.0], [[0.0, 0.0]], [[4.0, 1.0]], "diag")
    >>> panels = pairs(mixture, axes=Figure().subplots(2, 2))
    >>> panels[1, 0].get_xlabel(), panels[1, 0].get_ylabel(), len(panels[1, 0].patches)
    ('x0', 'x1', 1)
    """
    model = as_model(mixture)
    names = names_of(model, model.n_features, None, x)
    limit = check_count(max_features, "max_features")
    shown = list(range(min(len(names), limit))) if features is None else columns_of(features, names)
    if not 1 <= len(shown) <= _MAX_SHOWN:
        found = f"a matrix of panels shows 1 to {_MAX_SHOWN} columns, got {len(shown)}"
        raise UsageError("E157", found, "give features=(0, 1, 2)")
    rows = chosen = None
    remarks = [f"{len(shown)} of {len(names)} columns"] if len(shown) < len(names) else []
    if x is not None:
        rows, chosen, remark = some_rows(x, model, _MAX_POINTS)
        remarks += [remark] if remark else []
    if axes is None:
        size = min(2.4 * len(shown) + 0.6, 15.0)
        figure = new_figure(figsize=(max(size, 4.0), max(size, 3.2)), layout="constrained")
        axes = figure.subplots(len(shown), len(shown), squeeze=False)
        if remarks:
            figure.suptitle(", ".join(remarks), fontsize="medium")
    panels = _panels(axes, len(shown))
    draw_pairs(panels, model, names, shown, rows, chosen)
    return panels


def draw_pairs(
    panels: np.ndarray,
    model: Model,
    names: Sequence[str],
    shown: Sequence[int],
    rows: np.ndarray | None,
    chosen: np.ndarray | None,
) -> None:
    """Fill the panels; `chosen`: the numbers of the rows to draw as points."""
    last = len(shown) - 1
    for i, j in np.ndindex(panels.shape):
        ax: Any = panels[i, j]
        if j > i:
            ax.set_axis_off()
            continue
        if i == j:
            values = None if rows is None else rows[:, shown[i]].astype(np.float64)
            rug = None if chosen is None else chosen[:: -(-len(chosen) // MAX_RUG)]
            draw_density(ax, marginal(model, [shown[i]]), values, rug=rug)
            ax.set_yticks([])
        else:
            if rows is not None:
                draw_rows(ax, rows[chosen], [shown[j], shown[i]], model)
            draw_ellipses(ax, marginal(model, [shown[j], shown[i]]))
            thin(ax)
        ax.locator_params(nbins=4)
        ax.tick_params(labelbottom=i == last, labelleft=j == 0 and i > 0)
        if i == last:
            ax.set_xlabel(names[shown[j]])
        if j == 0:
            ax.set_ylabel(names[shown[i]] if i else "density")
    for j in range(len(shown)):  # one range for all panels of a column
        limits = [panels[i, j].get_xlim() for i in range(j, len(shown))]
        wide = min(low for low, _ in limits), max(high for _, high in limits)
        for i in range(j, len(shown)):
            panels[i, j].set_xlim(wide)
        for k in range(j):
            panels[j, k].set_ylim(wide)


def _panels(axes: Any, n: int) -> np.ndarray:
    panels = np.asarray(axes, dtype=object)
    panels = panels.reshape(1, 1) if panels.shape == () else panels
    if panels.shape != (n, n):
        found = f"axes has shape {panels.shape}, and {n} columns need ({n}, {n})"
        raise UsageError("E157", found, f"pass axes=figure.subplots({n}, {n}, squeeze=False)")
    for ax in panels.flat:
        axes_of(ax)
    return panels
