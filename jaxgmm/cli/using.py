"""``jaxgmm predict``, ``score``, ``sample`` and ``summary``: what a fitted model is for."""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxgmm import report
from jaxgmm._status import DataError
from jaxgmm.cli import inputs
from jaxgmm.cli.comparing import compare
from jaxgmm.cli.output import Console
from jaxgmm.cli.parser import Settings
from jaxgmm.cli.writing import Piece, write_table
from jaxgmm.data.batches import Batch, weights_of


def predict(settings: Settings, console: Console) -> None:
    """The component of every row: to a file, or as CSV on standard output."""
    model = inputs.load_model(settings)
    table = inputs.rows_for(model, settings)
    found: dict[str, Any] = {"command": "predict", "source": table.source}
    names = ["label"] + [f"p{k}" for k in range(model.n_components)] * settings["proba"]
    names += ["uncertainty"] * settings["uncertainty"]
    labels: list[np.ndarray] = []

    def answer(x: np.ndarray) -> Piece:
        array = model.predict(x)
        if table.labels is not None:
            labels.append(array)
        columns: list[Any] = [array]
        if settings["proba"]:
            array = model.responsibilities(x)
            columns += list(array.T)
        if settings["uncertainty"]:
            array = model.uncertainty(x)
            columns.append(array)
        return Piece(columns, array)

    found["n_samples"] = _deliver(settings, console, found, names, map(answer, inputs.pieces(table, settings)))
    if table.labels is not None:
        # The labels themselves may be on standard output: what people read goes beside them.
        aside = console if settings["output"] else Console(json=True, quiet=console.quiet)
        found["comparison"] = compare(np.concatenate(labels), table, aside)
    console.emit(found)


def score(settings: Settings, console: Console) -> None:
    """Mean and total log-likelihood, and that of every row on request."""
    model = inputs.load_model(settings)
    table = inputs.rows_for(model, settings)
    n_rows, totals, weights = 0, [0.0], [0.0]

    def answer(piece: Batch) -> Piece:
        nonlocal n_rows
        values = model.log_prob(piece.x)
        weight = weights_of(piece, np.float64)
        weights.append(float(weight.sum()))
        totals.append(float(weight @ values.astype(np.float64)))
        n_rows += len(values)
        return Piece([values], values)

    answers = map(answer, inputs.weighted_pieces(table, settings))
    if settings["per_row"]:
        write_table(settings["per_row"], ["log_prob"], answers)
    else:
        collections.deque(answers, maxlen=0)
    weight, total = math.fsum(weights), math.fsum(totals)
    if not weight:
        raise DataError("E222", f"the weights of {table.source} are zero for every row", "at least one row must count")
    console.result(
        f"rows                  {n_rows:>20}\n"
        f"mean log-likelihood   {total / weight:>20.6f}\n"
        f"total log-likelihood  {total:>20.4f}"
    )
    if settings["per_row"]:
        console.note(f"wrote {settings['per_row']}")
    console.emit(
        {
            "command": "score",
            "source": table.source,
            "n_samples": n_rows,
            "weight_sum": weight,
            "score": total / weight,
            "log_likelihood": total,
            "per_row": settings["per_row"],
        }
    )


def sample(settings: Settings, console: Console) -> None:
    """New rows in the units of the data: to a file, or as CSV on standard output."""
    model = inputs.load_model(settings)
    seed = inputs.seed_of(settings, console)
    x, labels = model.sample(seed, settings["n_samples"])
    names = inputs.column_names(model.columns, model.n_features)
    found = {"command": "sample", "model": settings["model"], "seed": seed, "n_samples": len(x)}
    deliver_rows(settings, console, found, names, x, labels)


def summary(settings: Settings, console: Console) -> None:
    """The summary of a model file."""
    model = inputs.load_model(settings)
    console.result(report.summary_text(model, settings["model"]))
    console.emit({"command": "summary", "model": settings["model"], **report.summary_dict(model)})


def deliver_rows(
    settings: Settings, console: Console, found: dict[str, Any], names: list[str], x: np.ndarray, labels: np.ndarray
) -> None:
    """Rows, and the component of each where that was asked for, to where the settings say."""
    columns: list[Any] = list(x.T)
    if settings["with_labels"]:
        names, columns = [*names, "label"], [*columns, labels]
    if settings["labels_to"]:
        write_table(settings["labels_to"], ["label"], [Piece([labels], labels)])
        found["labels_to"] = settings["labels_to"]
        console.note(f"wrote {settings['labels_to']}")
    _deliver(settings, console, found, names, [Piece(columns, x)])
    console.emit(found)


def _deliver(
    settings: Settings, console: Console, found: dict[str, Any], names: list[str], pieces: Iterable[Piece]
) -> int:
    """Write the pieces to where the settings say, or add them to what is `found`; the number of rows."""
    path = found["output"] = settings["output"]
    if path or not console.json:
        n_rows = write_table(path, names, pieces)
        if path:
            console.note(f"wrote {path}")
        return n_rows
    columns = [np.concatenate(parts) for parts in zip(*(piece.columns for piece in pieces), strict=True)]
    found["columns"] = {name: column.tolist() for name, column in zip(names, columns, strict=True)}
    return len(columns[0])
