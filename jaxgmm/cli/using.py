"""``jaxgmm predict``, ``score``, ``sample`` and ``summary``: what a fitted model is for."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxgmm import report
from jaxgmm.cli import inputs, output
from jaxgmm.cli.comparing import compare
from jaxgmm.cli.output import Console
from jaxgmm.cli.parser import Settings
from jaxgmm.functional import weighted_mean


def predict(settings: Settings, console: Console) -> None:
    """The component of every row: to a file, or as CSV on standard output."""
    model = inputs.load_model(settings)
    table = inputs.rows_for(model, settings)
    labels = model.predict(table.x)
    names: list[str] = ["label"]
    columns: list[Any] = [labels]
    found: dict[str, Any] = {"command": "predict", "source": table.source, "n_samples": len(labels)}
    array = labels
    if settings["proba"]:
        shares = model.responsibilities(table.x)
        names += [f"p{k}" for k in range(model.n_components)]
        columns += list(shares.T)
        array = shares
    if settings["uncertainty"]:
        uncertain = model.uncertainty(table.x)
        names.append("uncertainty")
        columns.append(uncertain)
        array = uncertain
    if table.labels is not None:
        # The labels themselves may be on standard output: what people read goes beside them.
        aside = console if settings["output"] else Console(json=True, quiet=console.quiet)
        found["comparison"] = compare(labels, table, aside)
    _deliver(settings, console, found, names, columns, array)


def score(settings: Settings, console: Console) -> None:
    """Mean and total log-likelihood, and that of every row on request."""
    model = inputs.load_model(settings)
    table = inputs.rows_for(model, settings)
    values = model.log_prob(table.x)
    mean = weighted_mean(values, table.sample_weight)
    weight = float(len(values) if table.sample_weight is None else table.sample_weight.sum())
    console.result(
        f"rows                  {len(values):>20}\n"
        f"mean log-likelihood   {mean:>20.6f}\n"
        f"total log-likelihood  {mean * weight:>20.4f}"
    )
    if settings["per_row"]:
        _write(settings["per_row"], ["log_prob"], [values], values)
        console.note(f"wrote {settings['per_row']}")
    console.emit(
        {
            "command": "score",
            "source": table.source,
            "n_samples": len(values),
            "weight_sum": weight,
            "score": mean,
            "log_likelihood": mean * weight,
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
        _write(settings["labels_to"], ["label"], [labels], labels)
        found["labels_to"] = settings["labels_to"]
        console.note(f"wrote {settings['labels_to']}")
    _deliver(settings, console, found, names, columns, x)


def _deliver(
    settings: Settings, console: Console, found: dict[str, Any], names: list[str], columns: list[Any], array: np.ndarray
) -> None:
    path = settings["output"]
    if path:
        _write(path, names, columns, array)
        console.note(f"wrote {path}")
    elif console.json:
        found["columns"] = {name: column.tolist() for name, column in zip(names, columns, strict=True)}
    else:
        output.write_table(None, names, columns)
    console.emit(found | {"output": path})


def _write(path: str, names: list[str], columns: list[Any], array: np.ndarray) -> None:
    if path.lower().endswith(".npy"):
        output.write_array(path, array)
    else:
        output.write_table(path, names, columns)
