"""A fit beside the mixture that the data were drawn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgmm._status import DataError
from jaxgmm.model import Model
from jaxgmm.plot._canvas import INK, NOTE, axes_of, look, note, thin
from jaxgmm.plot._density import _grid, _histogram
from jaxgmm.plot._ellipses import draw_ellipses
from jaxgmm.plot._mixture import Marginal, as_model, marginal, names_of, some_rows
from jaxgmm.plot._scatter import draw_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_ROWS = 12
# Inches: a row of the table, and the room between the axes and it, which the labels need.
_ROW = 0.2
_GAP = 0.65


def truth(mixture: Any, true: Any, x: Any = None, *, ax: Axes | None = None) -> Axes:
    """The fitted mixture, solid, and the true one, dashed, with a table of both.

    One column: the densities of both mixtures and of their components. More: ellipses of two standard deviations over
    the first two. A true component and its partner have one colour; partners are those with the smallest Σ |z_k − t_k|²
    over all one-to-one pairs, z and t the fitted and the true means in units of the true mixture's standard deviations.
    The table shows weights, means and standard deviations, ``true / fitted``, of at most twelve components.

    mixture, true: see `jaxgmm.plot`; `true` may also be what a generator of `jaxgmm.data` returns. They may have
    different numbers of components. x: (N, D), data units, or None. ax: axes of two dimensions, the lower part of which
    is used for the table, or None for new ones.

    Returns the axes of the picture. Raises `DataError` E210 for another number of columns than the mixture has.

    >>> from matplotlib.figure import Figure
    >>> true = jaxgmm.make_params([0.5, 0.5], [[0.0], [4.0]], [[1.0], [1.0]], "diag")
    >>> fitted = jaxgmm.make_params([0.4, 0.6], [[4.1], [0.2]], [[1.0], [1.0]], "diag")
    >>> figure = Figure()
    >>> ax = truth(fitted, true, ax=figure.subplots())
    >>> table = figure.axes[1].tables[0]
    >>> [table[1, column].get_text().get_text() for column in range(3)]
    ['0 / 1', '0.5 / 0.6', '0 / 0.2']
    """
    fitted, known = as_model(mixture), as_model(true)
    if fitted.n_features != known.n_features:
        found = f"the true mixture has {known.n_features} columns and the fitted one {fitted.n_features}"
        raise DataError("E210", found, "give mixtures of the same columns")
    names = names_of(fitted, fitted.n_features, None, x)
    pairs = match(fitted, known)
    remark = ""
    rows = chosen = None
    if x is not None:
        rows, chosen, remark = some_rows(x, fitted)
    shown = min(fitted.n_features, 2)
    cells, header = _cells(fitted, known, pairs, names[:shown])
    height = _ROW * (len(cells) + 2)
    ax = axes_of(ax, figsize=(6.4, 4.8 + height + _GAP))
    columns = list(range(shown))
    ours, theirs = marginal(fitted, columns), marginal(known, columns)
    if shown == 1:
        _densities(ax, ours, theirs, pairs, None if rows is None else rows[:, 0].astype(np.float64))
        ax.set_ylabel("density")
    else:
        if rows is not None and chosen is not None:
            draw_rows(ax, rows[chosen], columns)
        for plane, line, numbers in ((ours, "-", True), (theirs, "--", False)):
            for k in range(len(plane.indices)):
                style = look(_colour(int(plane.indices[k]), pairs, true=plane is theirs))
                one = _only(plane, k)
                draw_ellipses(ax, one, numbers=numbers, edgecolor=style.colour, linestyle=line, linewidth=2.0)
        ax.set_ylabel(names[1])
    ax.set_xlabel(names[0])
    thin(ax)
    note(ax, remark)
    _key(ax)
    _add_table(ax, cells, header, height)
    return ax


def match(fitted: Model, known: Model) -> list[tuple[int | None, int | None]]:
    """Pairs (true, fitted) of active components; None where one mixture has more of them than the other."""
    from scipy.optimize import linear_sum_assignment  # comes with JAX; loaded late because it takes 0.2 s

    ours, theirs = (np.flatnonzero(np.asarray(m.params.weights) > 0) for m in (fitted, known))
    # In units of what is seen: the spread of the true means and the size of the true components.
    means = known.data_means[theirs]
    unit = np.maximum(known.data_std[theirs].max(axis=0), np.abs(means - means[0]).max(axis=0))
    gap = (means[:, None] - fitted.data_means[ours]) / unit
    left, right = linear_sum_assignment((np.clip(gap, -1e100, 1e100) ** 2).sum(axis=-1))
    partner = dict(zip(theirs[left].tolist(), ours[right].tolist(), strict=True))
    found: list[tuple[int | None, int | None]] = [(int(t), partner.get(int(t))) for t in theirs]
    return found + [(None, int(k)) for k in ours if int(k) not in partner.values()]


def _colour(index: int, pairs: list[tuple[int | None, int | None]], *, true: bool) -> int:
    """The number by which a component is coloured: that of the fitted one of a pair, or one that is not taken."""
    if not true:
        return index
    partner = next(k for t, k in pairs if t == index)
    taken = 1 + max((k for _, k in pairs if k is not None), default=0)
    return taken + [t for t, k in pairs if k is None].index(index) if partner is None else partner


def _only(line: Marginal, k: int) -> Marginal:
    return Marginal(
        *(a[k : k + 1] for a in (line.indices, line.weights, line.means, line.deviations, line.correlations))
    )


def _densities(ax: Any, ours: Marginal, theirs: Marginal, pairs: Any, values: np.ndarray | None) -> None:
    low = min(ours.reach(0)[0], theirs.reach(0)[0])
    high = max(ours.reach(0)[1], theirs.reach(0)[1])
    if values is not None:
        heights, edges = _histogram(values, "auto", float(ours.deviations.min()))
        ax.stairs(heights, edges, fill=True, facecolor="#DDDDDD", zorder=1)
        low, high = min(low, edges[0]), max(high, edges[-1])
    for line, dash in ((ours, "-"), (theirs, "--")):
        grid = _grid(line, low, high)
        terms = np.exp(line.log_densities(grid[:, None]))
        for k, index in enumerate(line.indices):
            colour = look(_colour(int(index), pairs, true=line is theirs)).colour
            ax.plot(grid, terms[k], color=colour, linestyle=dash, linewidth=1.4)
        ax.plot(grid, terms.sum(axis=0), color=INK, linestyle=dash, linewidth=2.2, zorder=3)
    ax.set_xlim(low, high)
    ax.set_ylim(bottom=0.0)


def _key(ax: Any) -> None:
    from matplotlib.lines import Line2D

    lines: Any = (("-", "fit"), ("--", "truth"))
    handles = [Line2D([], [], color=INK, linestyle=line, label=name) for line, name in lines]
    ax.legend(handles=handles, fontsize=NOTE, framealpha=0.8, edgecolor="none")


def _cells(
    fitted: Model, known: Model, pairs: list[tuple[int | None, int | None]], names: list[str]
) -> tuple[list[list[str]], list[str]]:
    header = ["true / fit", "weight", *(f"{what} {name}" for name in names for what in ("mean", "sd"))]
    cells = []
    for t, k in pairs[:MAX_ROWS]:
        mine = [[f"{'–' if t is None else t} / {'–' if k is None else k}"]]
        for model, index in ((known, t), (fitted, k)):
            values = ["–"] * (1 + 2 * len(names))
            if index is not None:
                numbers = [float(np.asarray(model.params.weights)[index])]
                for d in range(len(names)):
                    numbers += [float(model.data_means[index, d]), float(model.data_std[index, d])]
                values = [f"{number:.3g}" for number in numbers]
            mine.append(values)
        cells.append([mine[0][0], *(f"{a} / {b}" for a, b in zip(mine[1], mine[2], strict=True))])
    if len(pairs) > MAX_ROWS:
        cells.append([f"{len(pairs) - MAX_ROWS} more", *[""] * (len(header) - 1)])
    return cells, header


def _add_table(ax: Any, cells: list[list[str]], header: list[str], height: float) -> None:
    """Below the axes, in inches, so that the labels between have room whatever the size of the axes."""
    from mpl_toolkits.axes_grid1 import make_axes_locatable  # type: ignore[import-untyped]

    whole = ax.get_position().height * ax.figure.get_figheight()
    share = min(1.0, 0.5 * whole / (height + _GAP))  # half of the axes at most
    below = make_axes_locatable(ax).append_axes("bottom", size=share * height, pad=share * _GAP)
    below.set_axis_off()
    table = below.table(cellText=cells, colLabels=header, cellLoc="center", bbox=[0.0, 0.0, 1.0, 1.0])
    table.auto_set_font_size(False)
    table.set_fontsize(8 if share == 1.0 else 6)
    for cell in table.get_celld().values():
        cell.set_linewidth(0.4)
