"""Components of a mixture as ellipses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgmm._status import UsageError
from jaxgmm.plot._canvas import INK, LINES, PALETTE, axes_of, look, thin
from jaxgmm.plot._mixture import Marginal, as_model, exactly, marginal, names_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Beyond this quotient of the standard deviations of two columns, a rotated ellipse loses its digits.
_MAX_QUOTIENT = 1e4
# More numbers than this overlap, and say nothing.
_MAX_NUMBERS = 30


def ellipses(
    mixture: Any,
    *,
    features: Sequence[int | str] = (0, 1),
    n_std: float | Sequence[float] = 2.0,
    ax: Axes | None = None,
    facecolor: Any = None,
    **kwargs: Any,
) -> Axes:
    """Each active component as an ellipse of its marginal over two columns, with its centre and its number.

        (x − μ_k)ᵀ Σ_k⁻¹ (x − μ_k) = s²,   semi-axes s √λ_i along the eigenvectors of Σ_k with eigenvalues λ_i

    μ_k, Σ_k: mean and covariance of the two columns, data units; s: `n_std`. An ellipse holds 1 − exp(−s²/2) of its
    component: 39 % for s = 1, 86 % for 2, 99 % for 3. Where the deviations of the columns differ by more than 1e4,
    the ellipse is one in rescaled units, because its angle would lose its digits.

    mixture: see `jaxgmm.plot`. features: two columns, numbers or names. n_std: one number of standard deviations or
    several, above 0. ax: axes of two dimensions, or None for new ones. facecolor: of all ellipses; None leaves them
    empty. kwargs: further properties of `matplotlib.patches.Ellipse`.

    Returns the axes. Raises `UsageError` E157 for another number of columns, E130 for one that does not exist, E108 for
    an `n_std` that is not positive.

    >>> from matplotlib.figure import Figure
    >>> mixture = jaxgmm.make_params([1.0], [[0.0, 0.0]], [[4.0, 1.0]], "diag")
    >>> patch = ellipses(mixture, n_std=1.5, ax=Figure().subplots()).patches[0]
    >>> sorted([float(patch.get_width()), float(patch.get_height())])
    [3.0, 6.0]
    """
    model = as_model(mixture)
    names = names_of(model, model.n_features)
    columns = exactly(2, features, names, "an ellipse")
    ax = axes_of(ax)
    draw_ellipses(ax, marginal(model, columns), n_std, facecolor=facecolor, **kwargs)
    ax.set_xlabel(names[columns[0]])
    ax.set_ylabel(names[columns[1]])
    thin(ax)
    return ax


def draw_ellipses(
    ax: Any, plane: Marginal, n_std: float | Sequence[float] = 2.0, *, numbers: bool = True, **properties: Any
) -> None:
    """The ellipses of a marginal over two columns; `numbers`: mark the centres and number them."""
    from matplotlib.patches import Ellipse
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Affine2D

    sizes = _sizes(n_std)
    unit = _unit(plane.deviations)
    for k, index in enumerate(plane.indices):
        style = look(int(index))
        deviations = plane.deviations[k] / unit
        largest = deviations.max()  # squares of 1e200 would overflow
        relative = deviations / largest
        values, vectors = np.linalg.eigh(plane.correlations[k] * relative[:, None] * relative)
        lengths = np.sqrt(np.maximum(values, 0.0)) * largest
        angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
        given = {"edgecolor": style.colour, "linestyle": LINES[index // len(PALETTE) % len(LINES)], "linewidth": 1.5}
        given |= {"zorder": 3, **properties}
        if given.get("facecolor") is None:
            given |= {"facecolor": "none"}
        for size in sizes:
            patch = Ellipse(
                tuple(plane.means[k] / unit), 2 * size * lengths[1], 2 * size * lengths[0], angle=angle, **given
            )
            patch.set_transform(Affine2D().scale(*unit) + ax.transData)
            ax.add_patch(patch)
            # matplotlib takes the limits of the circle before it is turned.
            reach = size * plane.deviations[k]
            ax.update_datalim([plane.means[k] - reach, plane.means[k] + reach])
        if numbers:
            halo = [withStroke(linewidth=2.5, foreground="white")]
            centre = tuple(plane.means[k])
            ax.plot(*centre, marker="+", color=INK, markersize=7, markeredgewidth=1.5, zorder=4, path_effects=halo)
            if len(plane.indices) <= _MAX_NUMBERS:
                ax.annotate(
                    str(index),
                    centre,
                    xytext=(4, 4),
                    textcoords="offset points",
                    color=INK,
                    zorder=5,
                    path_effects=halo,
                )
    ax.autoscale_view()


def _sizes(n_std: Any) -> np.ndarray:
    sizes = np.atleast_1d(np.asarray(n_std))
    if sizes.ndim != 1 or not len(sizes) or sizes.dtype.kind not in "iuf" or not ((sizes > 0) & (sizes < np.inf)).all():
        raise UsageError("E108", f"n_std must be one or several numbers above 0, got {n_std!r}", "for example n_std=2")
    return np.asarray(sizes, np.float64)


def _unit(deviations: np.ndarray) -> np.ndarray:
    """1 and 1, or what makes columns of very different size alike."""
    typical = np.exp(np.log(deviations).mean(axis=0))
    alike = typical.max() <= _MAX_QUOTIENT * typical.min()
    return np.ones(2) if alike else np.asarray(typical)
