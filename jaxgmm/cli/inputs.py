"""What commands work on: rows from a file or a generator, models, seeds."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxgmm import io
from jaxgmm._checks import check_data
from jaxgmm._status import UsageError
from jaxgmm.cli.options import MAX_SEED
from jaxgmm.cli.output import Console
from jaxgmm.cli.parser import Settings
from jaxgmm.data import GENERATORS, Table, read_table, standardize
from jaxgmm.model import Model


@dataclass(frozen=True, kw_only=True, eq=False)
class Scaled:
    """Rows ready to fit: z = (x - shift) / scale in the type to compute in; None for no rescaling."""

    z: np.ndarray
    shift: Any = None
    scale: Any = None


# Settings that the library's functions take under the same names, where a command has them.
_ARGUMENTS = ["n_restarts", "init", "tol", "tol_kind", "reg_covar", "reg_kind", "max_iter", "accelerate", "prior"]
_ARGUMENTS += ["degenerate", "kernel", "keep_restarts"]


def fit_arguments(settings: Settings, table: Table, seed: int | None) -> dict[str, Any]:
    """What ``fit``, ``sweep`` and ``fit-many`` hand on to the library in the same way."""
    named = {name: settings[name] for name in _ARGUMENTS if name in settings}
    return named | {"key": seed, "sample_weight": table.sample_weight}


def start_seed(settings: Settings, console: Console) -> int | None:
    """The seed of a fit: a new one only where none is given and the start draws something."""
    if settings.get("init_from") or settings["init"] == "orthant":
        return settings["seed"]
    return seed_of(settings, console)


def seed_of(settings: Settings, console: Console) -> int:
    """The seed given, or a new one, told to the user so that the run can be repeated."""
    if settings["seed"] is not None:
        return int(settings["seed"])
    seed = secrets.randbelow(MAX_SEED + 1)
    console.note(f"seed {seed} drawn; repeat this run with --seed {seed}")
    return seed


def rows(settings: Settings) -> Table:
    """The rows to fit, finite and of a floating type, from the file or the generator that the settings name."""
    table = _generated(settings) if settings.get("generate") else _read(settings, settings["columns"])
    check_data(table.x, name=table.source)
    return table


def rows_for(model: Model, settings: Settings) -> Table:
    """Rows for a fitted model: its own columns by name where the file has them, else all columns in order."""
    chosen = settings["columns"] is not None or settings["drop"] is not None
    unnamed = model.columns is None or list(model.columns) == column_names(None, model.n_features)
    if chosen or model.columns is None or (unnamed and settings["data_path"] == "-"):
        table = _read(settings, settings["columns"])
    else:
        table = _by_name(model.columns, settings)
    check_data(table.x, name=table.source, n_features=model.n_features)
    return table


def scaled(x: np.ndarray, settings: Settings, start: Model | None = None) -> Scaled:
    """Rows in the precision and the units to fit in; those of `start` when the fit begins at a model."""
    dtype = settings["dtype"] or ("data" if _on_cpu() else "float32")
    shift, scale = None, None
    if start is not None and ((start.scale != 1).any() or start.shift.any()):
        shift, scale = start.shift, start.scale
        x = (x.astype(np.float64) - shift) / scale
    elif settings["standardize"]:
        x, shift, scale = standardize(x)
    if dtype != "data" and x.dtype != dtype:
        with np.errstate(over="ignore"):  # what does not fit becomes infinity, which is refused by row and column
            x = x.astype(dtype)
    return Scaled(z=x, shift=shift, scale=scale)


def load_model(settings: Settings) -> Model:
    """The model that the settings name."""
    return io.load(settings["model"])


def column_names(columns: Sequence[str] | None, n_features: int) -> list[str]:
    """The names of a model's columns, x0, x1, ... where it has none."""
    return list(columns or (f"x{i}" for i in range(n_features)))


def _generated(settings: Settings) -> Table:
    name, options = settings["generate"], settings["generator_options"]
    truth = GENERATORS[name](**options)
    columns = tuple(column_names(None, truth.x.shape[1]))
    return Table(truth.x, columns, labels=truth.labels, source=f"generator {name!r}")


def _read(settings: Settings, columns: Any) -> Table:
    return read_table(
        settings["data_path"],
        columns=columns,
        drop=settings["drop"],
        weight_column=settings["weight_column"],
        label_column=settings["label_column"],
        header=settings["header"],
    )


def _by_name(names: Sequence[str], settings: Settings) -> Table:
    try:
        return _read(settings, list(names))
    except UsageError:
        # Standard input cannot be read twice.
        if settings["data_path"] == "-":
            raise
    table = _read(settings, None)
    shared = [name for name in names if name in table.columns]
    if shared:
        missing = next(name for name in names if name not in table.columns)
        raise UsageError(
            "E130",
            f"{table.source} has the model's column {shared[0]!r} but not {missing!r}",
            "say which columns to use with --columns, in the model's order",
        )
    return table


def _on_cpu() -> bool:
    import jax

    return jax.default_backend() == "cpu"
