"""What the use cases share: the command line, the refusal to overwrite, colours, a figure with labelled axes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers tell apart, in an order in which their greys differ as well.
BLUE, ORANGE, GREEN, SKY, RED, PURPLE = "#0072B2", "#E69F00", "#009E73", "#56B4E9", "#D55E00", "#CC79A7"
GREY = "#999999"
FORMATS = (".png", ".pdf", ".svg")


def command_line(main: Callable[..., dict[str, Any]], script: str, words: Sequence[str] | None = None) -> None:
    """Run ``main(figure, force=)``, which prints its number; a file that is in the way ends it with one sentence.

    script: ``__file__`` of the use case, whose docstring is the help. words: the arguments, those of the shell if None.
    """
    name = Path(script).stem
    parser = argparse.ArgumentParser(
        prog=f"{name}.py", description=main.__globals__["__doc__"], formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("-o", "--output", default=f"{name}.png", metavar="FILE", help="the figure (%(default)s)")
    parser.add_argument("--force", action="store_true", help="write it over a file of that name")
    options = parser.parse_args(words)
    try:
        main(options.output, force=options.force)
    except OSError as error:
        raise SystemExit(f"{name}.py: {error}") from None
    print(f"figure: {options.output}")


def check_figure(path: str | os.PathLike[str] | None, force: bool) -> None:
    """Refuse a figure that cannot be written, before anything is computed; None asks for no figure."""
    if path is None:
        return
    if Path(path).suffix.lower() not in FORMATS:
        raise OSError(f"the figure {path} must end in one of {', '.join(FORMATS)}")
    if not Path(path).absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder for {path}; make it first")
    if os.path.lexists(path) and not force:
        raise FileExistsError(f"{path} exists; give --force to write over it, or another name with -o")


def axes(n_panels: int = 1, width: float = 4.6, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """A figure of its own, outside of pyplot's list, with panels side by side."""
    figure = Figure(figsize=(width * n_panels, height), layout="constrained")
    panels = list(figure.subplots(1, n_panels, squeeze=False)[0])
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write the figure, the same whatever the style files of the user say about resolution."""
    with matplotlib.rc_context({"savefig.bbox": None}):
        figure.savefig(path, dpi=150, facecolor="white")
