"""``jaxgmm plot``, and the picture and the film that a fit leaves behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxgmm import plot as plots
from jaxgmm._files import replacing
from jaxgmm._status import UsageError
from jaxgmm.cli import inputs
from jaxgmm.cli.output import Console
from jaxgmm.cli.parser import Settings
from jaxgmm.data.batches import is_source
from jaxgmm.data.sources import choose_columns
from jaxgmm.model import Model

_DPI = 150
# Rows of a stream that are drawn.
_FIRST_ROWS = 1 << 16


def plot(settings: Settings, console: Console) -> None:
    """One picture of a model, with data where they are given."""
    check()
    model = inputs.load_model(settings)
    x = None
    if settings["data_path"]:
        x = rows_to_draw(inputs.rows_for(model, settings).x)
    path, kind = settings["output"], settings["kind"]
    features = _columns(settings["features"], model)
    if kind == "animation":
        plots.film(model, path, x, features=features, force=settings["force"])
    else:
        write(path, _FIGURES[kind](model, x, features, settings))
    console.note(f"wrote {path}")
    console.emit({"command": "plot", "model": settings["model"], "kind": kind, "output": path})


def after_fit(model: Model, x: Any, settings: Settings, console: Console) -> dict[str, str]:
    """The picture and the film that a fit was asked for; the names of the files."""
    written = {name: settings[name] for name in ("plot", "animate") if settings.get(name)}
    if not written:
        return {}
    rows = rows_to_draw(x)
    if "plot" in written:
        write(written["plot"], plots.overview(model, rows))
    if "animate" in written:
        plots.film(model, written["animate"], rows, force=settings["force"])
    for path in written.values():
        console.note(f"wrote {path}")
    return written


def check() -> None:
    """Refuse to begin what will need matplotlib where it is missing: E147."""
    from jaxgmm.plot._canvas import plotting

    with plotting():
        pass


def rows_to_draw(x: Any) -> np.ndarray:
    """All rows in memory; of a stream the first ones."""
    if not is_source(x):
        return np.asarray(x)
    piece = next(iter(x.pieces(_FIRST_ROWS)))
    return np.asarray(piece.x)


def write(path: str | os.PathLike[str], figure: Any) -> None:
    """A figure in the format that the ending of the file says, all or nothing and without a date."""
    kind = Path(path).suffix[1:].lower()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    from matplotlib import rc_context

    with replacing(path) as handle, rc_context({"svg.hashsalt": "jaxgmm"}):
        figure.savefig(handle, format=kind, dpi=_DPI, metadata=undated)


def _on_axes(draw: Callable[..., Any]) -> Callable[..., Any]:
    """A figure with one pair of axes that `draw` fills."""

    def figure(model: Model, x: Any, features: Any, settings: Settings) -> Any:
        from matplotlib.figure import Figure

        made = Figure(figsize=(6.4, 4.8), layout="constrained")
        solid = draw is _scatter and len(features or ()) == 3
        draw(model, x, features, settings, made.add_subplot(projection="3d" if solid else None))
        return made

    return figure


def _overview(model: Model, x: Any, features: Any, settings: Settings) -> Any:
    return plots.overview(model, x)


def _pairs(model: Model, x: Any, features: Any, settings: Settings) -> Any:
    from matplotlib.figure import Figure

    n = len(features) if features else min(model.n_features, 6)
    made = Figure(figsize=(2.2 * n + 0.6, 2.2 * n + 0.4), layout="constrained")
    plots.pairs(model, x, features=features, axes=made.subplots(n, n, squeeze=False))
    return made


def _scatter(model: Model, x: Any, features: Any, settings: Settings, ax: Any) -> None:
    plots.scatter(_needed(x, settings), model, features=features, ax=ax)


def _ellipses(model: Model, x: Any, features: Any, settings: Settings, ax: Any) -> None:
    if x is not None:
        plots.scatter(x, model, features=features or (0, 1), ax=ax)
    plots.ellipses(model, features=features or (0, 1), n_std=settings["n_std"], ax=ax)


def _density(model: Model, x: Any, features: Any, settings: Settings, ax: Any) -> None:
    plots.density_1d(model, x, feature=_one(features), ax=ax)


def _contours(model: Model, x: Any, features: Any, settings: Settings, ax: Any) -> None:
    plots.contours(model, x, features=features or (0, 1), ax=ax)


def _history(model: Model, x: Any, features: Any, settings: Settings, ax: Any) -> None:
    plots.history(model, ax=ax)


def _criteria(model: Model, x: Any, features: Any, settings: Settings, ax: Any) -> None:
    plots.criteria(model, ax=ax)


def _uncertainty(model: Model, x: Any, features: Any, settings: Settings, ax: Any) -> None:
    plots.uncertainty(model, _needed(x, settings), features=features, ax=ax)


def _qq(model: Model, x: Any, features: Any, settings: Settings, ax: Any) -> None:
    plots.qq(model, _needed(x, settings), feature=_one(features), ax=ax)


def _cdf(model: Model, x: Any, features: Any, settings: Settings, ax: Any) -> None:
    plots.cdf(model, _needed(x, settings), feature=_one(features), ax=ax)


_FIGURES: dict[str, Callable[[Model, Any, Any, Settings], Any]] = {
    "overview": _overview,
    "pairs": _pairs,
    "scatter": _on_axes(_scatter),
    "ellipses": _on_axes(_ellipses),
    "density": _on_axes(_density),
    "contours": _on_axes(_contours),
    "history": _on_axes(_history),
    "criteria": _on_axes(_criteria),
    "uncertainty": _on_axes(_uncertainty),
    "qq": _on_axes(_qq),
    "cdf": _on_axes(_cdf),
}


def _columns(keys: Any, model: Model) -> list[int] | None:
    """Numbers of the columns to show, None for the first ones."""
    if keys is None:
        return None
    names = inputs.column_names(model.columns, model.n_features)
    return list(choose_columns(names, keys, None, None, None, "the model").features)


def _needed(x: Any, settings: Settings) -> Any:
    if x is None:
        kind, model = settings["kind"], settings["model"]
        raise UsageError("E106", f"a plot of the kind {kind} shows rows", f"jaxgmm plot {model} DATA --kind {kind}")
    return x


def _one(features: Any) -> Any:
    if features is not None and len(features) != 1:
        raise UsageError("E157", f"this plot shows one column, got {len(features)}", "for example --features 0")
    return 0 if features is None else features[0]
