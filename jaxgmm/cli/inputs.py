"""What commands work on: rows from a file or a generator, models, seeds."""

from __future__ import annotations

import contextlib
import json
import secrets
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxgmm import io
from jaxgmm._checks import check_data
from jaxgmm._provenance import fingerprint, fingerprint_of_pieces
from jaxgmm._status import UsageError
from jaxgmm.cli.options import MAX_SEED
from jaxgmm.cli.output import Console
from jaxgmm.cli.parser import Settings
from jaxgmm.cli.rules import OUTPUTS
from jaxgmm.data import GENERATORS, Table, read_table, standardize
from jaxgmm.data.batches import Batch, Rescaled, Source, is_source
from jaxgmm.data.scan import is_arrow, is_many, refuse_own_output, scan_table
from jaxgmm.data.survey import survey
from jaxgmm.model import Model
from jaxgmm.scale.choose import check_columns, in_memory, read_batches, to_stream, too_large_file
from jaxgmm.scale.processes import group


@dataclass(frozen=True, kw_only=True, eq=False)
class Scaled:
    """Rows ready to fit: z = (x - shift) / scale in the type to compute in; None for no rescaling."""

    z: Any
    shift: Any = None
    scale: Any = None


# Settings that the library's functions take under the same names, where a command has them.
_ARGUMENTS = ["n_restarts", "init", "tol", "tol_kind", "reg_covar", "reg_kind", "max_iter", "accelerate", "prior"]
_ARGUMENTS += ["degenerate", "kernel", "keep_restarts", "batch_size"]
_ARGUMENTS += ["checkpoint", "checkpoint_every", "resume", "lane_devices", "history"]


def fit_arguments(settings: Settings, table: Table, seed: int | None) -> dict[str, Any]:
    """What ``fit``, ``sweep`` and ``fit-many`` hand on to the library in the same way."""
    named = {name: settings[name] for name in _ARGUMENTS if name in settings}
    return named | {"key": seed, "sample_weight": table.sample_weight}


def start_seed(settings: Settings, console: Console) -> int | None:
    """The seed of a fit: a new one only where none is given and the start draws something."""
    if settings.get("init_from") or settings["init"] == "orthant":
        return settings["seed"]
    kept = _kept_seed(settings)
    if settings["seed"] is None and kept is not None:
        console.note(f"seed {kept}, that of the run in {settings['checkpoint']}, which goes on")
        return kept
    return seed_of(settings, console)


def _kept_seed(settings: Settings) -> int | None:
    """The seed of the run that is to go on: of the newest checkpoint that can be read; None where there is none."""
    if settings.get("checkpoint") is None or settings["resume"] != "auto":
        return None
    # What is wrong with a checkpoint will be said when all of it is read.
    damage = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
    for path in sorted(Path(settings["checkpoint"]).glob("checkpoint-*.npz"), reverse=True):
        with contextlib.suppress(*damage), open(path, "rb") as handle, np.load(handle, allow_pickle=False) as archive:
            seed = json.loads(archive["header"].tobytes())["facts"]["key"]
            return seed if isinstance(seed, int) else None
    return None


def seed_of(settings: Settings, console: Console) -> int:
    """The seed given, or a new one, told to the user so that the run can be repeated."""
    if settings["seed"] is not None:
        return int(settings["seed"])
    seed = secrets.randbelow(MAX_SEED + 1)
    console.note(f"seed {seed} drawn; repeat this run with --seed {seed}")
    return seed


def rows(settings: Settings) -> Table:
    """The rows to fit from the file or the generator that the settings name; see `_read`.

    In memory they are finite and of a floating type; of a source, the first pass will tell.
    """
    table = _generated(settings) if settings.get("generate") else _read(settings, settings["columns"])
    if not is_source(table.x):
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
    if not is_source(table.x):
        check_data(table.x, name=table.source, n_features=model.n_features)
    else:
        check_columns(table.x, model.n_features)
    return table


def weighted_pieces(table: Table, settings: Settings) -> Iterator[Batch]:
    """The rows one piece after the other: those of a source as they are read, all at once what is in memory."""
    if not is_source(table.x):
        yield Batch(table.x, table.sample_weight)
        return
    yield from read_batches(table.x, settings["batch_size"])


def pieces(table: Table, settings: Settings) -> Iterator[np.ndarray]:
    """The same without the weights."""
    return (batch.x for batch in weighted_pieces(table, settings))


def scaled(x: Any, settings: Settings, start: Model | None = None) -> Scaled:
    """Rows in the precision and the units to fit in; those of `start` when the fit begins at a model."""
    dtype = settings["dtype"] or ("data" if _on_cpu() else "float32")
    shift, scale = None, None
    if is_source(x):
        return _scaled_source(x, np.dtype(x.dtype if dtype == "data" else dtype), settings, start)
    if start is not None and ((start.scale != 1).any() or start.shift.any()):
        shift, scale = start.shift, start.scale
        x = (x.astype(np.float64) - shift) / scale
    elif settings["standardize"]:
        x, shift, scale = standardize(x)
    if dtype != "data" and x.dtype != dtype:
        with np.errstate(over="ignore"):  # what does not fit becomes infinity, which is refused by row and column
            x = x.astype(dtype)
    return Scaled(z=x, shift=shift, scale=scale)


def _scaled_source(x: Source, dtype: np.dtype, settings: Settings, start: Model | None) -> Scaled:
    shift, scale = None, None
    if start is not None and ((start.scale != 1).any() or start.shift.any()):
        shift, scale = start.shift, start.scale
    elif settings["standardize"]:
        # As for rows in memory, without weights.
        found = survey(x, weighted=False)
        shift, spread = found.mean, np.sqrt(np.diag(found.covariance))
        scale = np.where(spread > 0, spread, 1.0)
    return Scaled(
        z=x if shift is None and dtype == x.dtype else Rescaled(x, dtype, shift, scale), shift=shift, scale=scale
    )


def load_model(settings: Settings) -> Model:
    """The model that the settings name."""
    return io.load(settings["model"])


def fingerprint_of(table: Table) -> str | None:
    """The fingerprint of the rows; None where it would take one process more than rows of its own, or to count them."""
    if not is_source(table.x):
        return fingerprint(table.x)
    if table.x.n_samples is None or group().count > 1:
        return None
    pieces = (piece.x for piece in table.x.pieces(1 << 16))
    return fingerprint_of_pieces((table.x.n_samples, table.x.n_features), table.x.dtype, pieces)


def column_names(columns: Sequence[str] | None, n_features: int) -> list[str]:
    """The names of a model's columns, x0, x1, ... where it has none."""
    return list(columns or (f"x{i}" for i in range(n_features)))


def _generated(settings: Settings) -> Table:
    name, options = settings["generate"], settings["generator_options"]
    truth = GENERATORS[name](**options)
    columns = tuple(column_names(None, truth.x.shape[1]))
    return Table(truth.x, columns, labels=truth.labels, source=f"generator {name!r}", label_names=truth.label_names)


def _read(settings: Settings, columns: Any) -> Table:
    """A table in memory, or one whose rows are a source: where that is asked for, and what takes too much memory."""
    path, batch_size = settings["data_path"], settings.get("batch_size")
    if path != "-" and is_many(path):
        # A single file, and outputs that are named twice, are known before anything is read.
        for output in filter(None, map(settings.get, OUTPUTS)):
            refuse_own_output(path, output)
    asked = batch_size is not None or _asks_for_a_stream(settings)
    if path == "-":
        if asked:
            raise UsageError("E107", "standard input can be read only once, not in batches", "save it to a file first")
    elif asked or is_many(path) or is_arrow(path) or too_large_file(path):
        return _scan(settings, columns)
    return read_table(
        settings["data_path"],
        columns=columns,
        drop=settings["drop"],
        weight_column=settings["weight_column"],
        label_column=settings["label_column"],
        header=settings["header"],
    )


def _asks_for_a_stream(settings: Settings) -> bool:
    """Whether what is asked for beside a batch size needs rows that can be read in parts."""
    return any(settings.get(name) for name in ("checkpoint", "distributed", "coordinator"))


def _scan(settings: Settings, columns: Any) -> Table:
    label = settings.get("label_column")
    if label is not None:
        raise UsageError(
            "E107",
            "--label-column is for one file of text, .npy, .npz or .mat that is read as a whole",
            f"leave the column out with --drop {label}",
        )
    path = settings["data_path"]
    source = scan_table(
        path,
        columns=columns,
        drop=settings["drop"],
        weight_column=settings["weight_column"],
        header=settings["header"],
        cache=settings.get("cache") is not False,
    )
    names = source.columns or tuple(column_names(None, source.n_features))
    if to_stream(source, None, settings.get("batch_size"), asked=_asks_for_a_stream(settings)) is not None:
        return Table(source, names, source=source.name)
    x, weight = in_memory(source)
    return Table(x, names, weight, source=source.name)


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
