"""The pictures of a report as images inside its text: vectors, or pixels where rows are drawn."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgmm._status import JaxgmmError
from jaxgmm.model import Model
from jaxgmm.report import _facts
from jaxgmm.report._text import _count, _names, clip

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Twice the 96 dots of an inch of a page: points stay sharp.
_DPI = 192
_MAX_NAME = 24
# Panels of quantiles, one a column.
_MAX_QQ = 4
_WIDTH, _HEIGHT = 5.2, 3.8
# Nothing of a file may be read as a formula, and the same picture is the same text.
_SETTINGS: dict[Any, Any] = {
    "text.parse_math": False,
    "text.usetex": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "jaxgmm",
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image as base64 text, its kind and its size in dots of a page; without text where it cannot be drawn."""

    caption: str
    alt: str
    wide: bool
    kind: str = ""
    base64: str = ""
    width: int = 0
    height: int = 0


def pictures(model: Model, rows: np.ndarray | None) -> list[Picture] | None:
    """What can be drawn of a model and of rows (N, D) or None; None where matplotlib is not installed."""
    try:
        import matplotlib
        import matplotlib.figure
    except ImportError:
        return None
    with warnings.catch_warnings(), np.errstate(all="ignore"), matplotlib.rc_context():
        # Whatever the user has set, and letters that the font does not have are drawn as boxes.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        warnings.simplefilter("ignore")
        return list(_drawn(model, rows))


def _drawn(model: Model, rows: np.ndarray | None) -> Iterator[Picture]:
    from jaxgmm import plot

    names = [clip(name, _MAX_NAME) for name in _names(model)]
    # The mixture alone: how it was fitted and chosen has pictures of its own.
    bare = Model(params=model.params, shift=model.shift, scale=model.scale, columns=tuple(names))
    size = (_WIDTH * 1.25, _WIDTH * 1.15) if model.n_features > 2 else (_WIDTH * 1.25, _HEIGHT * 1.25)
    what = "The mixture" if rows is None else "The rows and the mixture"
    yield _picture(
        lambda figure: plot.overview(bare, rows, figure=figure),
        f"{what}: components are numbered as in the table.",
        f"{what} over {_facts.listed(names, 3 if len(names) > 3 else 2)}",
        size=size,
        pixels=rows is not None,
        wide=True,
    )
    if model.history is not None and np.isfinite(model.history.log_likelihood[model.history.best]).sum() > 1:
        curve = model.history.log_likelihood[model.history.best]
        curve = curve[np.isfinite(curve)]
        yield _picture(
            lambda figure: plot.history(model, ax=figure.subplots()),
            "How the fit went: the log-likelihood after each iteration.",
            f"Log-likelihood of {_count(len(model.history.log_likelihood), 'start')}; that of the best goes from "
            f"{_facts.decimal(curve[0])} to {_facts.decimal(curve[-1])} in {_count(len(curve) - 1, 'iteration')}",
        )
    found = _facts.candidates(model)
    if found is not None and found.best is not None:
        sweep = _facts.known(model)["sweep"]
        best = found.rows[found.best]
        yield _picture(
            lambda figure: plot.criteria({"sweep": sweep}, ax=figure.subplots()),
            f"How it was chosen: {_facts.label(found.criterion)} of the candidates, the star on the best.",
            f"{_facts.label(found.criterion)} against the number of components; the best has "
            f"{_count(best['n_components'], 'component')} and {best['covariance_type']} covariance",
        )
    if rows is None:
        return
    if model.n_components > 1:
        yield _picture(
            lambda figure: plot.uncertainty(bare, rows, ax=figure.subplots()),
            "Rows whose component is uncertain are larger and darker.",
            f"The rows over {_facts.listed(names, 2)}, by the uncertainty of their component",
            pixels=True,
        )
    yield _picture(
        lambda figure: _quantiles(figure, bare, rows),
        "Quantiles of the rows against those of the mixture: on the line where the mixture holds.",
        f"Quantiles of {_facts.listed(names, _MAX_QQ)}",
        size=(_WIDTH * 1.25, _WIDTH * 1.15) if model.n_features > 2 else (_WIDTH, _HEIGHT),
        pixels=True,
    )


def _quantiles(figure: Figure, model: Model, rows: np.ndarray) -> None:
    from jaxgmm import plot

    n = min(model.n_features, _MAX_QQ)
    for ax, feature in zip(figure.subplots(-(-n // 2), min(n, 2), squeeze=False).flat, range(n), strict=False):
        plot.qq(model, rows, feature=feature, ax=ax)
    for ax in figure.axes[n:]:
        ax.set_axis_off()


def _picture(
    draw: Callable[[Figure], Any],
    caption: str,
    alt: str,
    *,
    size: tuple[float, float] = (_WIDTH, _HEIGHT),
    pixels: bool = False,
    wide: bool = False,
) -> Picture:
    """Draw on a new figure; pixels: an image of dots, which is the smaller one where many rows are drawn."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    try:
        draw(figure)
    except JaxgmmError as error:
        return Picture(caption=f"{caption} It cannot be drawn: {error.found}.", alt="", wide=wide)
    file = io.BytesIO()
    # No date and no version of the writer: the same picture is the same text.
    if pixels:
        figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
    else:
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return Picture(
        caption=caption,
        alt=alt,
        wide=wide,
        kind="image/png" if pixels else "image/svg+xml",
        base64=base64.b64encode(file.getvalue()).decode(),
        width=round(size[0] * 96),
        height=round(size[1] * 96),
    )
