"""Axes to draw on, and the colours, markers and lines by which components are told apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgmm._status import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, in an order in which neighbours also differ as greys; yellow, hard to see, comes last.
PALETTE = ("#0072B2", "#E69F00", "#D55E00", "#56B4E9", "#009E73", "#CC79A7", "#000000", "#F0E442")
# Nine markers and eight colours: 72 pairs before one comes again.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
HATCHES = ("", "//", "..", "xx", "--", "oo")

INK = "#222222"
GREY = "#777777"
PALE = "#BBBBBB"
NOTE = "small"
# More entries hide the picture; the numbers in it still say which component is which.
MAX_LEGEND = 12


@dataclass(frozen=True)
class Look:
    """How a component or a line of a chart is drawn. Colour and marker, or colour and line, are told apart in grey."""

    colour: str
    marker: str
    line: Any
    hatch: str


def look(index: int) -> Look:
    """The look of component `index`; colours come again after eight, then with other lines and markers."""
    turn = index // len(PALETTE)
    return Look(
        colour=PALETTE[index % len(PALETTE)],
        marker=MARKERS[index % len(MARKERS)],
        line=LINES[(index + turn) % len(LINES)],
        hatch=HATCHES[index % len(HATCHES)],
    )


def colours(indices: Any) -> np.ndarray:
    """The colours of components, red, green and blue in [0, 1]: (K, 3)."""
    from matplotlib.colors import to_rgb

    return np.array([to_rgb(look(int(k)).colour) for k in indices]).reshape(-1, 3)


@contextmanager
def plotting() -> Iterator[None]:
    """What draws without the axes of a caller: `UsageError` E147 where matplotlib or its display is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise UsageError("E147", "plots need matplotlib", "pip install 'jaxgmm[plot]'") from None
    try:
        yield
    except ImportError as error:  # what pyplot raises for a backend that finds no display
        found = f"matplotlib opens no figure: {str(error).rstrip('.')}"
        raise UsageError("E147", found, "set MPLBACKEND=Agg or pass ax=") from None


def new_figure(**options: Any) -> Figure:
    """A figure of pyplot, which keeps it; `UsageError` E147 where that cannot be."""
    with plotting():
        import matplotlib.pyplot as plt

        return plt.figure(**options)


def axes_of(ax: Axes | None, *, solid: bool = False, figsize: tuple[float, float] | None = None) -> Any:
    """The axes to draw on: those given, or new ones, with three dimensions where `solid`."""
    if ax is not None:
        if not hasattr(ax, "transData"):
            raise UsageError("E145", f"ax is a {type(ax).__name__}, not axes of matplotlib", "pass ax=figure.gca()")
        return ax
    figure = new_figure(figsize=figsize, layout="constrained")
    return figure.add_subplot(projection="3d" if solid else None)


def is_solid(ax: Any) -> bool:
    """Whether axes have three dimensions."""
    return hasattr(ax, "get_zlim")


def thin(ax: Any) -> None:
    """Fewer lines around the data: no spines above and on the right."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def note(ax: Any, text: str) -> None:
    """A small remark above the axes, on the right, where it leaves the title alone."""
    if text:
        ax.set_title(text, loc="right", fontsize=NOTE, color=GREY)


def legend(ax: Any, *, limit: int = MAX_LEGEND, **options: Any) -> None:
    """A legend of what has a label, unless there is nothing or too much of it."""
    _, labels = ax.get_legend_handles_labels()
    if not 0 < len(labels) <= limit:
        return
    shown = ax.legend(fontsize=NOTE, framealpha=0.8, edgecolor="none", **options)
    for handle in shown.legend_handles:
        if hasattr(handle, "set_sizes"):  # points are too small to show their marker
            handle.set_sizes([30.0])
            handle.set_alpha(1.0)
