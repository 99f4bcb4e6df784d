"""``jaxgmm generate``: samples with known truth."""

from __future__ import annotations

from jaxgmm.cli import inputs
from jaxgmm.cli.output import Console
from jaxgmm.cli.parser import Settings
from jaxgmm.cli.using import deliver_rows
from jaxgmm.data import GENERATORS


def generate(settings: Settings, console: Console) -> None:
    """A sample of a mixture with known parameters: to a file, or as CSV on standard output."""
    seed = inputs.seed_of(settings, console)
    truth = GENERATORS[settings["name"]](**settings["generator_options"] | {"seed": seed})
    found = {
        "command": "generate",
        "name": settings["name"],
        "seed": seed,
        "n_samples": len(truth.x),
        "truth": {"weights": truth.weights, "means": truth.means, "covariances": truth.covariances},
    }
    names = inputs.column_names(None, truth.x.shape[1])
    console.note(f"{settings['name']}: {len(truth.x)} rows x {truth.x.shape[1]} columns of {len(truth.means)} clusters")
    deliver_rows(settings, console, found, names, truth.x, truth.labels)
