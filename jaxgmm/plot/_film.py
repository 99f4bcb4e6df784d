"""The film of a fit: the mixture of every iteration beside the growing log-likelihood."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgmm._checks import check_count
from jaxgmm._files import replacing
from jaxgmm._pytree import replace, take
from jaxgmm._status import UsageError
from jaxgmm.em.result import History
from jaxgmm.model import Model
from jaxgmm.plot._canvas import INK, PALE, colours, look, plotting, thin
from jaxgmm.plot._ellipses import draw_ellipses
from jaxgmm.plot._mixture import as_model, columns_of, marginal, names_of, some_rows

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_FRAMES = 60
# Rows that are drawn: colours are computed anew for every frame.
MAX_POINTS = 2000
_SIZE = (9.6, 4.2)
_DPI = 100
# Milliseconds of a frame; the last one stays.
_FRAME, _LAST = 100, 2000
_GRID = 400


def film(
    mixture: Any,
    path: str | os.PathLike[str],
    x: Any = None,
    *,
    features: Sequence[int | str] | None = None,
    max_frames: int = MAX_FRAMES,
    force: bool = False,
) -> Path:
    """Write the fit as an animated GIF: its mixture after every iteration beside the log-likelihood so far.

    Two columns are shown as ellipses of two standard deviations over rows coloured by their responsibilities, one as
    densities over a histogram. Of more iterations than frames the early ones, in which most happens, are shown closer.

    mixture: a `FitResult` of ``fit(..., history="params")``, or a `Model` of one. path: ends in ``.gif``. x: rows
    (N, D) in data units, of which at most 2,000 are drawn; None for none. features: one or two columns, numbers or
    names; None for the first two. max_frames: at least 2. force: replace an existing file.

    Returns the path. Raises `UsageError` E158 for a mixture that does not know its iterations, E157 for more than two
    columns, E125 for a file that exists; `DataError` for rows with other columns than the mixture.

    >>> import tempfile
    >>> rows = np.concatenate([np.linspace(-6, -4, 50), np.linspace(4, 6, 50)])[:, None]
    >>> result = jaxgmm.fit(rows, 2, key=0, history="params")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     film(result, f"{folder}/em.gif", rows).name
    'em.gif'
    """
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise UsageError("E120", f"{path} must end in .gif", f"for example {path.with_suffix('.gif')}")
    if path.exists() and not force:
        raise UsageError("E125", f"{path} exists", "replace it with force=True (--force) or choose another name")
    pictures = list(frames(mixture, x, features=features, max_frames=max_frames))
    from PIL.Image import Dither

    # One palette for all frames, made from the last one: colours that change from frame to frame would flicker.
    palette = pictures[-1].quantize(256, dither=Dither.NONE)
    small = [picture.quantize(palette=palette, dither=Dither.NONE) for picture in pictures]
    content = io.BytesIO()
    durations = [_FRAME] * (len(small) - 1) + [_LAST]
    small[0].save(
        content, format="GIF", save_all=True, append_images=small[1:], duration=durations, loop=0, optimize=False
    )
    with replacing(path) as handle:
        handle.write(content.getvalue())
    return path


def frames(
    mixture: Any, x: Any = None, *, features: Sequence[int | str] | None = None, max_frames: int = MAX_FRAMES
) -> Iterator[Image]:
    """The pictures of `film`, one after the other; see there."""
    model = as_model(mixture)
    history = model.history
    if history is None or history.params is None:
        found = "this model does not know the parameters of its iterations"
        raise UsageError("E158", found, 'fit it with history="params" (--history params) or --animate')
    names = names_of(model, model.n_features, x=x)
    columns = columns_of(range(min(2, model.n_features)) if features is None else features, names)
    if len(columns) > 2:
        raise UsageError("E157", f"a film shows 1 or 2 columns, got {len(columns)}", "give features=(0, 1)")
    rows = np.empty((0, model.n_features))
    if x is not None:
        checked, chosen, _ = some_rows(x, model, MAX_POINTS)
        rows = checked[chosen]
    steps = [_at(model, history, t) for t in range(len(history.params.means))]
    curve = history.log_likelihood[history.best]
    shown = _shown(len(steps), check_count(max_frames, "max_frames", minimum=2))
    with plotting():
        yield from _drawn(steps, curve[~np.isnan(curve)], rows, columns, [names[c] for c in columns], shown)


def _at(model: Model, history: History, step: int) -> Model:
    assert history.params is not None
    # Components that were left out at the end are still there before.
    return replace(model, params=take(history.params, step), history=None)


def _shown(n_steps: int, max_frames: int) -> list[int]:
    """Which iterations are shown: all, or denser at the beginning, with the first and the last."""
    if n_steps <= max_frames:
        return list(range(n_steps))
    spread = np.linspace(0.0, 1.0, max_frames) ** 2 * (n_steps - 1)
    steps = np.maximum(np.round(spread).astype(int), np.arange(max_frames))
    steps[-1] = n_steps - 1
    return sorted(set(steps.tolist()))


def _drawn(
    steps: Sequence[Model],
    curve: np.ndarray,
    rows: np.ndarray,
    columns: Sequence[int],
    names: Sequence[str],
    shown: Sequence[int],
) -> Iterator[Image]:
    """What stays is drawn once; what moves is drawn over a copy of it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1.0))
    _frame_data(left, steps, rows, columns, names, shown)
    _frame_curve(right, curve)
    title = left.set_title(f"iteration {len(steps) - 1} of {len(steps) - 1}", loc="left", color=INK)
    canvas.draw()
    figure.set_layout_engine("none")
    title.set_visible(False)
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)
    for step in shown:
        canvas.restore_region(still)
        before = [set(map(id, ax.get_children())) for ax in (left, right)]
        _draw_step(left, steps[step], rows, columns)
        right.plot(np.arange(step + 1), curve[: step + 1], color=INK, linewidth=2)
        right.plot(step, curve[step], marker="o", color=INK)
        left.text(0, 1.02, f"iteration {step} of {len(steps) - 1}", transform=left.transAxes, color=INK, clip_on=False)
        right.text(
            1,
            1.02,
            f"log-likelihood {curve[step]:.6g}",
            transform=right.transAxes,
            color=INK,
            ha="right",
            clip_on=False,
        )
        for ax, known in zip((left, right), before, strict=True):
            moving = [artist for artist in ax.get_children() if id(artist) not in known]
            for artist in sorted(moving, key=lambda a: a.get_zorder()):
                ax.draw_artist(artist)
                artist.remove()
        yield Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _frame_data(
    ax: Any,
    steps: Sequence[Model],
    rows: np.ndarray,
    columns: Sequence[int],
    names: Sequence[str],
    shown: Sequence[int],
) -> None:
    """Limits that hold for the whole film, names, and a histogram where one column is shown."""
    thin(ax)
    ax.set_xlabel(names[0])
    last = marginal(steps[-1], columns)
    limits = []
    for i, column in enumerate(columns):
        low, high = (rows[:, column].min(), rows[:, column].max()) if len(rows) else last.reach(i)
        margin = 0.06 * (high - low) or 1.0
        limits.append((float(low - margin), float(high + margin)))
    ax.set_xlim(*limits[0])
    if len(columns) == 2:
        ax.set_ylabel(names[1])
        ax.set_ylim(*limits[1])
        return
    ax.set_ylabel("density")
    heights = [np.zeros(1)]
    if len(rows):
        heights.append(ax.hist(rows[:, columns[0]], bins="auto", density=True, color=PALE, zorder=1)[0])
    grid = np.linspace(*limits[0], _GRID)[:, None]
    heights += [np.exp(marginal(steps[step], columns).log_density(grid)) for step in shown]
    ax.set_ylim(0.0, 1.08 * max(float(h.max()) for h in heights) or 1.0)


def _frame_curve(ax: Any, curve: np.ndarray) -> None:
    thin(ax)
    ax.set_xlabel("iteration")
    ax.plot(np.arange(len(curve)), curve, color=PALE, linewidth=1)
    ax.locator_params(axis="y", nbins=5)
    low, high = float(curve.min()), float(curve.max())
    margin = 0.05 * (high - low) or 1.0
    ax.set_ylim(low - margin, high + margin)
    ax.set_xlim(-0.02 * len(curve), 1.02 * max(len(curve) - 1, 1))
    ax.ticklabel_format(axis="y", useOffset=False)


def _draw_step(ax: Any, model: Model, rows: np.ndarray, columns: Sequence[int]) -> None:
    """The mixture of one iteration, and the rows in the colours of their responsibilities."""
    plane = marginal(model, columns)
    if len(columns) == 1:
        low, high = ax.get_xlim()
        grid = np.linspace(low, high, _GRID)
        terms = np.exp(plane.log_densities(grid[:, None]))
        for k, index in enumerate(plane.indices):
            style = look(int(index))
            ax.plot(grid, terms[k], color=style.colour, linestyle=style.line, linewidth=1.4)
        ax.plot(grid, terms.sum(axis=0), color=INK, linewidth=2.2)
        return
    if len(rows):
        mixed = np.clip(model.responsibilities(rows) @ colours(range(model.n_components)), 0.0, 1.0)
        ax.scatter(rows[:, columns[0]], rows[:, columns[1]], s=8, c=mixed, alpha=0.7, linewidths=0, zorder=2)
    draw_ellipses(ax, plane, numbers=len(plane.indices) <= 12)
