"""Rows as points, coloured by the components they belong to or by how uncertain that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgmm._status import DataError, UsageError
from jaxgmm.model import Model
from jaxgmm.plot._canvas import GREY, axes_of, colours, is_solid, legend, look, note, thin
from jaxgmm.plot._mixture import MAX_POINTS, as_model, columns_of, names_of, some_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Above so many points a vector file holds them as pixels.
_MAX_VECTORS = 2_000
# From certain to uncertain, light to dark.
_SHADES = ("#C4C4C4", "#56B4E9", "#0072B2", "#000000")
_WORDS = "1 − largest responsibility"


def scatter(
    x: Any,
    mixture: Any = None,
    *,
    labels: Any = None,
    features: Sequence[int | str] | None = None,
    columns: Sequence[str] | None = None,
    max_points: int = MAX_POINTS,
    ax: Axes | None = None,
) -> Axes:
    """The rows as points in two or three dimensions, or on a strip where there is one column.

        colour of row n = Σ_k r_nk c_k

    r_nk: responsibilities of component k for row n; c_k: its colour in red, green and blue. A row between two
    components has a colour between theirs; its marker is that of the most probable one. With labels, each label has a
    colour and a marker; with neither, all points are grey.

    x: (N, D), data units. mixture: see `jaxgmm.plot`; it has all D columns. labels: (N) values of one kind, in place of
    a mixture. features: one to three columns, numbers or names; by default all of up to three where the axes have room
    for them, else the first two. columns: D names, by default those of the mixture or of a data frame. max_points: of
    more rows a random choice is drawn, always the same one, and that is said above. ax: axes of two or three
    dimensions, or None for new ones.

    Returns the axes. Raises `UsageError` E157 for more columns than fit, E107 for a mixture and labels together;
    `DataError` E210 for another number of columns than the mixture has, E230 for labels that are not one a row.

    >>> from matplotlib.figure import Figure
    >>> ax = scatter([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], labels=["a", "b", "a"], ax=Figure().subplots())
    >>> [points.get_offsets().tolist() for points in ax.collections]
    [[[0.0, 1.0], [4.0, 5.0]], [[2.0, 3.0]]]
    """
    if mixture is not None and labels is not None:
        raise UsageError("E107", "mixture and labels both give the points a colour", "leave one of the two out")
    model = None if mixture is None else as_model(mixture)
    rows, chosen, remark = some_rows(x, model, max_points)
    names = names_of(model, rows.shape[1], columns, x)
    shown = _features(features, names, ax)
    groups = None if labels is None else _groups(labels, len(rows), chosen)
    ax = axes_of(ax, solid=len(shown) == 3)
    draw_rows(ax, rows[chosen], shown, model, groups)
    finish(ax, names, shown, remark)
    legend(ax, loc="upper right" if is_solid(ax) else "best")
    return ax


def uncertainty(
    mixture: Any,
    x: Any,
    *,
    features: Sequence[int | str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The rows as points that are larger and darker the less certain it is which component they belong to.

        u_n = 1 − max_k r_nk,   between 0 and 1 − 1/K

    r_nk: responsibilities. With one column, u_n is also the height of the points.

    mixture: see `jaxgmm.plot`. x: (N, D), data units; of more than 20,000 rows a random choice is drawn, always the
    same one. features: one to three columns, numbers or names, by default as in `scatter`. ax: axes, or None for new
    ones. A bar beside the axes shows which shade is which u.

    Returns the axes. Raises the errors of `scatter`.

    >>> from matplotlib.figure import Figure
    >>> mixture = jaxgmm.make_params([0.5, 0.5], [[0.0], [2.0]], [[1.0], [1.0]], "diag")
    >>> ax = uncertainty(mixture, [[-9.0], [1.0]], ax=Figure().subplots())
    >>> ax.collections[0].get_array().round(3).tolist()
    [0.0, 0.5]
    """
    model = as_model(mixture)
    rows, chosen, remark = some_rows(x, model)
    names = names_of(model, rows.shape[1], None, x)
    shown = _features(features, names, ax)
    ax = axes_of(ax, solid=len(shown) == 3)
    from matplotlib.colors import LinearSegmentedColormap

    values = np.asarray(model.uncertainty(rows[chosen]), np.float64)
    order = np.argsort(values, kind="stable")  # the uncertain ones on top
    values = np.maximum(values[order], 0.0)
    points: list[Any] = [rows[chosen][order, column] for column in shown]
    if len(shown) == 1:
        points.append(values)
    largest = max(1.0 - 1.0 / np.count_nonzero(model.params.weights), 0.5)
    size = _size(len(values))
    options: dict[str, Any] = {"c": values, "s": size * (0.5 + 2.5 * values / largest)}
    if is_solid(ax):
        options["depthshade"] = False  # it would change the shades
    drawn = ax.scatter(
        *points,
        **options,
        cmap=LinearSegmentedColormap.from_list("uncertainty", _SHADES),
        vmin=0.0,
        vmax=largest,
        linewidths=0,
        rasterized=len(values) > _MAX_VECTORS,
    )
    bar = ax.figure.colorbar(drawn, ax=ax, pad=0.1 if is_solid(ax) else 0.02)
    finish(ax, names, shown, remark)
    if len(shown) > 1:
        bar.set_label(_WORDS)
    else:
        ax.set_ylabel(_WORDS)
        ax.set_yticks(np.linspace(0.0, largest, 3).round(2))
    return ax


def draw_rows(
    ax: Any,
    rows: np.ndarray,
    shown: Sequence[int],
    model: Model | None = None,
    groups: tuple[np.ndarray, list[str]] | None = None,
) -> None:
    """Points without labels of the axes; groups: a number for each row, and the names of the numbers."""
    points = [rows[:, column] for column in shown]
    if len(shown) == 1:
        points.append(np.random.default_rng(0).uniform(-1.0, 1.0, len(rows)))
    if model is not None:
        shares = np.asarray(model.responsibilities(rows), np.float64)
        code, names = shares.argmax(axis=1), [str(k) for k in range(model.n_components)]
        mixed = np.clip(shares @ colours(range(model.n_components)), 0.0, 1.0)
    elif groups is not None:
        code, names = groups
        mixed = colours(range(len(names)))[code]
    else:
        code, names, mixed = np.zeros(len(rows), int), [""], colours([0])
    options: dict[str, Any] = {"s": _size(len(rows)), "linewidths": 0, "rasterized": len(rows) > _MAX_VECTORS}
    if is_solid(ax):
        options["depthshade"] = False  # it would change the colours
    for k in np.unique(code):
        mine = code == k
        plain = model is None and groups is None
        ax.scatter(
            *(values[mine] for values in points),
            c=GREY if plain else mixed[mine],
            marker=look(int(k)).marker,
            alpha=0.7,
            label=names[k] or None,
            **options,
        )


def finish(ax: Any, names: Sequence[str], shown: Sequence[int], remark: str) -> None:
    """Names on the axes, and the remark."""
    ax.set_xlabel(names[shown[0]])
    if len(shown) == 1:
        ax.set_yticks([])
    else:
        ax.set_ylabel(names[shown[1]])
    if is_solid(ax):
        ax.set_zlabel(names[shown[2]])
        ax.locator_params(nbins=5)
    else:
        thin(ax)
    note(ax, remark)


def _features(features: Any, names: Sequence[str], ax: Any) -> list[int]:
    """The columns to show, as many as the axes have dimensions at most."""
    solid = ax is None or is_solid(ax)
    if features is None:
        shown = list(range(len(names) if len(names) < 3 or (len(names) == 3 and solid) else 2))
        if ax is not None and solid and len(names) > 3:
            shown = [0, 1, 2]
    else:
        shown = columns_of(features, names)
    if not 1 <= len(shown) <= 3:
        found = f"a scatter shows 2 or 3 of the {len(names)} columns, got {len(shown)}"
        raise UsageError("E157", found, "give features=(0, 1) or features=(0, 1, 2)")
    if len(shown) == 3 and not solid:
        found = "these axes have two dimensions, got 3 columns"
        raise UsageError("E157", found, "pass ax=figure.add_subplot(projection='3d'), or features=(0, 1)")
    if len(shown) < 3 and ax is not None and solid:
        found = f"these axes have three dimensions, got {len(shown)} of the {len(names)} columns"
        raise UsageError("E157", found, "pass ax=figure.add_subplot(), or three features")
    return shown


def _groups(labels: Any, n_rows: int, chosen: np.ndarray) -> tuple[np.ndarray, list[str]]:
    try:
        array = np.asarray(labels)
        found, code = np.unique(array, return_inverse=True)
    except (TypeError, ValueError):
        raise DataError("E231", "labels mixes values that cannot be sorted", "use one kind, such as text") from None
    if array.shape != (n_rows,):
        found_shape = f"labels has shape {array.shape}, but x has {n_rows} rows"
        raise DataError("E230", found_shape, "give one label a row")
    return code[chosen], [str(name) for name in found]


def _size(n: int) -> float:
    """The area of a point, in points squared: smaller where there are many."""
    return float(np.clip(6e3 / max(n, 1), 3.0, 24.0))
