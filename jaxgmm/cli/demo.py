"""``jaxgmm demo``: the main job on generated and on real data, from the rows to the report."""

from __future__ import annotations

import os
import time
from importlib import resources
from pathlib import Path

import numpy as np

from jaxgmm import api, io, report
from jaxgmm._status import DataError, UsageError
from jaxgmm.cli import pictures
from jaxgmm.cli.comparing import compare
from jaxgmm.cli.fitting import warn_at_edge, warn_of_status
from jaxgmm.cli.output import Console
from jaxgmm.cli.pages import write_text
from jaxgmm.cli.parser import Settings
from jaxgmm.data import make_cube, read_table
from jaxgmm.functional import orthant_counts
from jaxgmm.model import Model
from jaxgmm.plot import film, overview

SEED = 0
RESTARTS = 8
SWEEP_RESTARTS = 4
# Looser than the default: the surplus components of the larger candidates would creep on for hundreds of steps.
SWEEP_TOL = 1e-6

_NEXT = """\
What to run next, on your own data (rows x columns, .csv or .npy):

  jaxgmm sweep data.csv --candidates 1-10  choose the number; writes model.npz
  jaxgmm fit data.csv -n 3 -o three.npz    fit a given number
  jaxgmm predict model.npz data.csv        the component of every row
  jaxgmm report model.npz data.csv         all of it on one page
  jaxgmm fit --help                        all options"""


def demo(settings: Settings, console: Console) -> None:
    """Choose the number of clusters of a generated set, then fit Anderson's irises and compare with the species."""
    started = time.perf_counter()
    folder = Path(settings["folder"])
    _make_folder(folder, settings["force"])
    truth = make_cube(seed=SEED)
    counts, proposed = orthant_counts(truth.x)
    console.result(
        f"1. How many clusters? {len(truth.x)} generated points near 7 of the 8 corners of a cube.\n"
        f"   Points in each octant: {' '.join(f'{n:.0f}' for n in counts)}, which proposes {proposed}.\n"
        f"   A sweep over 1 to 10 components, {SWEEP_RESTARTS} starts each:\n"
    )
    found = api.sweep(truth.x, range(1, 11), key=SEED, n_restarts=SWEEP_RESTARTS, tol=SWEEP_TOL)
    console.result(report.sweep_text(found) + "\n")
    warn_at_edge(found, console)
    cube = Model.from_fit(found.best, seed=SEED, sweep=found)

    with resources.as_file(resources.files("jaxgmm.data") / "iris.csv") as path:
        table = read_table(path, label_column="class")
    console.result(
        f"2. Real data: {len(table.x)} irises, {table.x.shape[1]} lengths in cm, fitted without their species.\n"
    )
    fit = api.fit(table.x, 3, key=SEED, n_restarts=RESTARTS, history="params")
    iris = Model.from_fit(fit, columns=table.columns, seed=SEED)
    console.result(report.summary_text(iris, None))
    warn_of_status(iris, console)
    comparison = compare(iris.predict(table.x), table, console)
    files = _Files(folder, console)
    files.write("cube", cube, truth.x, "the cube, its sweep")
    files.write("iris", iris, table.x, "the irises")
    files.write_film("iris", iris, table.x)
    seconds = time.perf_counter() - started
    listed = "".join(f"   {name:<24}{what}\n" for name, what in files.written.items())
    console.result(f"\n3. What it leaves behind, {seconds:.0f} s after its start:\n\n{listed}\n{_NEXT}")
    console.emit(
        {
            "command": "demo",
            "seconds": seconds,
            "files": list(files.written),
            "cube": {"proposed": proposed, "table": found.table(), **report.summary_dict(cube)},
            "iris": {"comparison": comparison, **report.summary_dict(iris)},
        }
    )


class _Files:
    """The files of the demo: what was written, and what it shows."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.written: dict[str, str] = {}
        self._folder = folder
        self._draws = True
        try:
            pictures.check()
        except UsageError as error:
            self._draws = False
            console.warn("W313", f"no pictures: {error.found}", error.help)

    def _path(self, name: str, what: str) -> Path:
        path = self._folder / name
        self.written[str(path)] = what
        return path

    def write(self, name: str, model: Model, x: np.ndarray, what: str) -> None:
        """The model, a picture and a page."""
        io.save(self._path(f"{name}.npz", f"{what}: the model"), model, force=True)
        write_text(self._path(f"{name}.html", "a report; open it in a browser"), report.html_page(model, x))
        if self._draws:
            pictures.write(self._path(f"{name}.png", "the data and the mixture"), overview(model, x))

    def write_film(self, name: str, model: Model, x: np.ndarray) -> None:
        """The film of the fit."""
        if self._draws:
            film(model, self._path(f"{name}.gif", "EM at work, iteration by iteration"), x, features=(2, 3), force=True)


def _make_folder(folder: Path, force: bool) -> None:
    """A new directory, or one that may be written to; `UsageError` where files of an earlier run would be lost."""
    if folder.is_dir() and any(folder.iterdir()) and not force:
        cure = "replace what is in it with --force, or choose another one with --folder"
        raise UsageError("E125", f"the directory {folder} exists and is not empty", cure)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        found = f"the directory {folder} cannot be made ({error.strerror})"
        raise DataError("E440", found, "choose another place with --folder") from None
