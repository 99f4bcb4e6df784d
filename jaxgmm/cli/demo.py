"""``jaxgmm demo``: the main job on generated and on real data. It writes no file."""

from __future__ import annotations

import time
from importlib import resources

from jaxgmm import api, report
from jaxgmm.cli.comparing import compare
from jaxgmm.cli.fitting import warn_at_edge, warn_of_status
from jaxgmm.cli.output import Console
from jaxgmm.cli.parser import Settings
from jaxgmm.data import make_cube, read_table
from jaxgmm.functional import orthant_counts
from jaxgmm.model import Model

SEED = 0
RESTARTS = 8
SWEEP_RESTARTS = 4
# Looser than the default: the surplus components of the larger candidates would creep on for hundreds of steps.
SWEEP_TOL = 1e-6

_NEXT = """\
What to run next, on your own data (rows x columns, .csv or .npy):

  jaxgmm sweep data.csv --candidates 1-10  choose the number; writes model.npz
  jaxgmm fit data.csv -n 3 -o three.npz    fit a given number
  jaxgmm summary model.npz                 print the summary again
  jaxgmm predict model.npz data.csv        the component of every row
  jaxgmm fit --help                        all options"""


def demo(settings: Settings, console: Console) -> None:
    """Choose the number of clusters of a generated set, then fit Anderson's irises and compare with the species."""
    started = time.perf_counter()
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
    cube = Model.from_fit(found.best, seed=SEED)

    with resources.as_file(resources.files("jaxgmm.data") / "iris.csv") as path:
        table = read_table(path, label_column="class")
    console.result(
        f"2. Real data: {len(table.x)} irises, {table.x.shape[1]} lengths in cm, fitted without their species.\n"
    )
    fit = api.fit(table.x, 3, key=SEED, n_restarts=RESTARTS)
    iris = Model.from_fit(fit, columns=table.columns, seed=SEED)
    console.result(report.summary_text(iris, None))
    warn_of_status(iris, console)
    comparison = compare(iris.predict(table.x), table, console)
    seconds = time.perf_counter() - started
    console.result(f"\nAll this took {seconds:.1f} s, compilation included. No file was written.\n\n{_NEXT}")
    console.emit(
        {
            "command": "demo",
            "seconds": seconds,
            "cube": {"proposed": proposed, "table": found.table(), **report.summary_dict(cube)},
            "iris": {"comparison": comparison, **report.summary_dict(iris)},
        }
    )
