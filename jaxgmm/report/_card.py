"""A model card: what a mixture is, how it came about and what it is not good for, in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from jaxgmm.model import Model
from jaxgmm.report import _facts
from jaxgmm.report._again import again, use_in_python, use_in_shell
from jaxgmm.report._text import _names, _short, _size, clip

_MAX_NAMES = 50


def card(model: Model, *, path: str | None = None) -> str:
    """A Markdown card of a model: what it is, its data, its fit, its quality, its limits, how to use and repeat it.

    What comes from the model file is escaped, so that it stays within its line and its cell. The same model gives the
    same text.

    model: the mixture and how it came about. path: of the model file, for the commands in the card.

    >>> mixture = jaxgmm.make_params([1.0], [[0.0, 0.0]], [[4.0, 1.0]], "diag")
    >>> card(Model.from_params(mixture)).splitlines()[0]
    '# Gaussian mixture of 1 component, diag covariance, 2 columns'
    """
    path, found = path or "model.npz", again(model)
    parts = [
        f"# {_md(_facts.heading(model))}",
        _md(_facts.verdict(model)[1]),
        "## What it is",
        "A density over rows of numbers: a weighted sum of Gaussians, fitted by expectation–maximisation. It tells "
        "the component of a row, how certain that is, and how likely the row is; and it draws new rows.",
        _components(model),
        "## Data",
        _data(model),
        "## How it was fitted",
        _table(["fact", "value"], [[name, value] for name, value in _facts.origin(model)]),
        _md(_facts.starts_in_words(_facts.known(model))),
        "## Quality",
        _quality(model),
        "## Use and limits",
        "For grouping rows that have the same columns in the same units, for densities, and for drawing rows alike.",
        "\n".join(f"- {_md(line)}" for line in [*_facts.limits(model), *_diagnoses(model)]),
        "## How to use it",
        _fence("sh", use_in_shell(path)),
        _fence("python", use_in_python(path)),
        "## How to fit it again",
        _fence("sh", found.shell),
        _fence("python", found.python),
        *(_md(remark) for remark in found.remarks),
        f"Digest of this model: `{model.digest}`",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _components(model: Model) -> str:
    found = _facts.components(model)
    head = ["component", "weight"] + ["size"] * (found.sizes is not None)
    rows = []
    for k in found.shown:
        size = [] if found.sizes is None else [_size(float(found.sizes[k]))]
        values = zip(found.means[k].tolist(), found.deviations[k].tolist(), strict=True)
        numbers = [f"{_short(mean)} ± {_short(deviation)}" for mean, deviation in values]
        rows.append([str(k), f"{found.weights[k]:.4f}", *size, *numbers])
    table = _table([*head, *found.columns], rows)
    return "\n\n".join(filter(None, [table, found.rest, "Mean ± standard deviation of each column, in data units."]))


def _data(model: Model) -> str:
    meta, names = _facts.known(model), _names(model)
    lines = [("data", meta.get("source")), ("rows", meta.get("n_samples"))]
    lines += [("sum of weights", meta.get("weight_sum") if meta.get("weight_sum") != meta.get("n_samples") else None)]
    lines += [("columns", _facts.listed([clip(name, 60) for name in names], _MAX_NAMES))]
    lines += [("standardized for the fit", "yes" if _facts.is_scaled(model) else "no")]
    return "\n".join(f"- {name}: {_md(value)}" for name, value in lines if value is not None)


def _quality(model: Model) -> str:
    shown = {"log_likelihood", "score", "n_parameters", "converged", "n_iter", "remaining_gain", "best_share"}
    rows = [(name, _text(value)) for fact, name, value in _facts.summary(model) if fact in shown]
    meta = _facts.known(model)
    rows += [
        (f"{name.upper()} (smaller is better)", _text(meta[name])) for name in ("bic", "aic", "icl") if name in meta
    ]
    parts = [_table(["fact", "value"], rows)] if rows else ["Nothing is known of how well it fits its data."]
    found = _facts.candidates(model)
    if found is None:
        return parts[0]
    way = "larger" if found.larger_is_better else "smaller"
    head = ["covariance", "components", *map(_facts.label, found.numbers), "stop", ""]
    lines = [
        [
            row["covariance_type"],
            row["n_components"],
            *(_text(row.get(name)) for name in found.numbers),
            row["status"].lower(),
            "chosen" if i == found.best else "",
        ]
        for i, row in enumerate(found.rows)
    ]
    said = f"Candidates, of which the best by {_facts.label(found.criterion)} was chosen ({way} is better)."
    return "\n\n".join(filter(None, [*parts, _md(said), _table(head, lines), found.rest]))


def _diagnoses(model: Model) -> list[str]:
    return [diagnosis["text"] for diagnosis in _facts.known(model).get("diagnoses") or []]


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return _facts.decimal(value) if isinstance(value, float) else str(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [[*head], ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_md(v) if line is not lines[1] else v for v in line)} |" for line in lines)


def _md(value: Any) -> str:
    """Text that Markdown takes for text, on one line."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A sign at the start of a line, or one that Markdown knows anywhere.
    text = re.sub(r"([\\`*_\[\]|~$])", r"\\\1", text)
    return re.sub(r"^([-+#=]|\d+[.)])(?=\s|$)", r"\\\1", text)


def _fence(language: str, text: str) -> str:
    """A block of code, in a fence that is longer than any in the text."""
    if not text:
        return ""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"
