"""Text for people at 80 columns, and the same facts as plain dictionaries."""

from __future__ import annotations

import math
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxgmm._status import Status
from jaxgmm.em.result import SweepResult
from jaxgmm.model import Model, plain

WIDTH = 80
# Components and columns shown; a summary should fit a screen, and the rest is in the JSON.
MAX_COMPONENTS = 20
MAX_FEATURES = 6
# Degenerate components that get a line of their own.
MAX_DIAGNOSES = 3

_RULE = "-" * WIDTH
_CELL = 9


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    """One that a float can hold."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_integer(value: Any) -> bool:
    return _is_number(value) and isinstance(value, int)


def _is_count(value: Any) -> bool:
    return _is_integer(value) and value >= 0


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_weight(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _are_diagnoses(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(d, dict) and _is_text(d.get("text")) for d in value)


def _are_likelihoods(value: Any) -> bool:
    """Of the restarts; of one that failed it is None."""
    return isinstance(value, list) and all(v is None or _is_number(v) for v in value)


def _are_options(value: Any) -> bool:
    return isinstance(value, dict) and _is_count(value.get("max_iter"))


# What the summary shows of meta, in the order of `summary_dict`, and what a fit writes there.
_FACTS: dict[str, Callable[[Any], bool]] = {
    "n_samples": _is_count,
    "weight_sum": _is_weight,
    "log_likelihood": _is_number,
    "n_parameters": _is_count,
    "bic": _is_number,
    "aic": _is_number,
    "icl": _is_number,
    "status": _is_text,
    "message": _is_text,
    "converged": lambda value: isinstance(value, bool),
    "n_iter": _is_count,
    "diagnoses": _are_diagnoses,
    "remaining_gain": _is_number,
    "best_share": _is_share,
    "restart_log_likelihoods": _are_likelihoods,
    "init": _is_text,
    "kernel": _is_text,
    "options": _are_options,
    "seed": _is_integer,
    "fingerprint": _is_text,
    "versions": lambda value: isinstance(value, dict),
}


def summary_text(model: Model, path: str | None = "model.npz") -> str:
    """The ruled summary of a fitted model, to be printed.

    model: the mixture and how it came about; what its meta does not tell is left out. path: its file, for
    the commands to run next; None leaves them out.
    """
    k, d = model.n_components, model.n_features
    title = f"Gaussian mixture: {_count(k, 'component')}, {model.covariance_type} covariance, {_count(d, 'feature')}"
    parts = [_RULE, title, _RULE, *_facts(model), "", *_components(model)]
    return "\n".join([*parts, *([] if path is None else ["", *_next(model, path)]), _RULE])


def summary_dict(model: Model) -> dict[str, Any]:
    """The facts of the summary, all components and all columns included, as JSON can hold them.

    What is not known of a model (one made from given parameters, say) is None.
    """
    known = _known(model)
    weights, sizes = np.asarray(model.params.weights, np.float64), _sizes(model)
    return plain(
        {
            "n_components": model.n_components,
            "n_features": model.n_features,
            "covariance_type": model.covariance_type,
            "columns": _names(model),
            "standardized": bool((model.scale != 1).any()),
            "digest": model.digest,
            "score": _score(model),
            **{name: known.get(name) for name in _FACTS},
            "components": [
                {"weight": weights[k], "size": None if sizes is None else sizes[k], "mean": mean, "std": std}
                for k, (mean, std) in enumerate(zip(model.data_means, model.data_std, strict=True))
            ],
        }
    )


def sweep_text(result: SweepResult) -> str:
    """The table of candidates, one line per cell with its stop code; ``*`` marks the winner."""
    criterion = result.criterion
    # A silhouette asks another question than the likelihood does: both answers side by side.
    beside = "bic" if result.larger_is_better else "log_likelihood"
    n_restarts = max((len(fit.restart_status) for fit in result.fits if fit is not None), default=1)
    best_of = f"best/{n_restarts}"
    heads = f"  {'covariance':<15}{'K':>3}{beside.replace('_', '-'):>15}{'df':>7}"
    header = f"{heads}{criterion:>14}{'iter':>6}{best_of:>8} stop"
    lines = [_RULE, header, _RULE]
    for i, (row, value) in enumerate(zip(result.table(), result.values, strict=True)):
        mark = "*" if i == result.best_index else " "
        start = f"{mark} {row['covariance_type']:<15}{row['n_components']:>3}"
        stop = row["status"].lower()
        if "n_iter" not in row:
            lines.append(f"{start}{'-':>15}{'-':>7}{'-':>14}{'-':>6}{'-':>8} {stop}")
            continue
        chosen = _fixed(value, 13, 4 if result.larger_is_better else 2) if math.isfinite(value) else "-"
        reached = round(row["best_share"] * n_restarts)
        lines.append(
            f"{start}{_fixed(row[beside], 14, 4):>15}{row['n_parameters']:>7}{chosen:>14}"
            f"{row['n_iter']:>6}{reached:>8} {stop}"
        )
    way = "larger" if result.larger_is_better else "lower"
    best = result.best
    lines += [
        _RULE,
        f"* the best: {_count(best.n_components, 'component')}, {best.covariance_type} ({criterion}: {way} is better)",
    ]
    if n_restarts > 1:
        lines.append(f"{best_of}: how many of the {n_restarts} starts reached the best optimum of their row")
    return "\n".join(lines)


def _facts(model: Model) -> list[str]:
    """Two columns of name and value; what is not known is left out."""
    meta = _known(model)
    left: list[tuple[str, str]] = [("rows", _or_blank(meta.get("n_samples")))]
    if meta.get("weight_sum") is not None and meta["weight_sum"] != meta.get("n_samples"):
        left.append(("sum of weights", f"{meta['weight_sum']:.6g}"))
    left += [
        ("features", str(model.n_features)),
        ("components", str(model.n_components)),
        ("covariance type", model.covariance_type),
        ("iterations", _or_blank(meta.get("n_iter"))),
        ("best optimum", _reached(meta)),
        ("seed", _or_blank(meta.get("seed"))),
        ("digest", model.digest),
    ]
    right = [
        ("log-likelihood", _decimal(meta.get("log_likelihood"))),
        ("mean per row", _decimal(_score(model))),
        ("df (free parameters)", _or_blank(meta.get("n_parameters"))),
        ("BIC (lower is better)", _decimal(meta.get("bic"))),
        ("AIC (lower is better)", _decimal(meta.get("aic"))),
        ("ICL (lower is better)", _decimal(meta.get("icl"))),
    ]
    left, right = ([pair for pair in side if pair[1]] for side in (left, right))
    rows = max(len(left), len(right))
    blank = [("", "")] * rows
    lines = [
        (f"{a:<17}{b:>19}" + (f"    {c:<23}{v:>17}" if c else "")).rstrip()
        for (a, b), (c, v) in list(zip(left + blank, right + blank, strict=False))[:rows]
    ]
    if meta.get("message"):
        lines += textwrap.wrap(f"status: {meta['message']}", WIDTH, subsequent_indent="        ")
    diagnoses = meta.get("diagnoses") or []
    for diagnosis in diagnoses[:MAX_DIAGNOSES]:
        lines += textwrap.wrap(f"note: {diagnosis['text']}", WIDTH, subsequent_indent="      ")
    if len(diagnoses) > MAX_DIAGNOSES:
        lines.append(f"note: and {len(diagnoses) - MAX_DIAGNOSES} more: jaxgmm summary --json shows all")
    if (model.scale != 1).any():
        lines.append("fitted on standardized columns; all numbers here are in the units of the data")
    return lines


def _components(model: Model) -> list[str]:
    """Weight, size, mean, then standard deviation of each component."""
    shown = min(model.n_features, MAX_FEATURES)
    names = "".join(f" {clip(name, _CELL):>{_CELL}}" for name in _names(model)[:shown])
    order = np.argsort(-np.asarray(model.params.weights), kind="stable")[:MAX_COMPONENTS]
    order = np.sort(order)
    weights, sizes = np.asarray(model.params.weights), _sizes(model)
    means, stds = model.data_means, model.data_std

    def values(row: np.ndarray) -> str:
        return "".join(f" {_short(value):>{_CELL}}" for value in row[:shown])

    lines = ["weights, sizes and means", f"{'k':>4}{'weight':>7}{'size':>9}{names}"]
    for k in order:
        size = "" if sizes is None else _size(float(sizes[k]))
        lines.append(f"{k:>4}{weights[k]:>7.4f}{size:>9}{values(means[k])}")
    lines += ["standard deviations along the axes", f"{'k':>4}{'':>16}{names}"]
    lines += [f"{k:>4}{'':>16}{values(stds[k])}" for k in order]
    rest = []
    if len(order) < model.n_components:
        rest.append(f"{_count(model.n_components - len(order), 'lighter component')}")
    if shown < model.n_features:
        rest.append(_count(model.n_features - shown, "column"))
    return lines + ([f"and {' and '.join(rest)} more: jaxgmm summary --json shows all"] if rest else [])


def _next(model: Model, path: str) -> list[str]:
    commands = [
        (f"jaxgmm predict {path} DATA", "the component of every row"),
        (f"jaxgmm score {path} DATA", "the log-likelihood of other data"),
        (f"jaxgmm sample {path} -n 1000", "new rows"),
    ]
    width = max(len(command) for command, _ in commands)
    lines = [f"  {command:<{width}}  {purpose}" for command, purpose in commands]
    meta = _known(model)
    restarts = meta.get("restart_log_likelihoods") or []
    if meta.get("status") == Status.MAX_ITER.name and "options" in meta:
        limit = 10 * max(1, meta["options"]["max_iter"])
        lines.insert(0, f"  jaxgmm fit DATA --init-from {path} --max-iter {limit} -o better.npz")
    elif meta.get("status") == Status.INTERRUPTED.name:
        lines.insert(0, f"  jaxgmm fit DATA --init-from {path} -o better.npz")
    elif len(restarts) > 1 and "best_share" in meta and _times_reached(meta) == 1:
        lines.insert(0, f"  the same with --n-restarts {4 * len(restarts)}: only one start came so far")
    return ["next:", *lines]


def _known(model: Model) -> dict[str, Any]:
    """What meta tells of the fit. A file may hold anything under these names: what no fit writes is left out."""
    return {name: model.meta[name] for name, fits in _FACTS.items() if name in model.meta and fits(model.meta[name])}


def _times_reached(meta: dict[str, Any]) -> int:
    return round(meta["best_share"] * len(meta["restart_log_likelihoods"]))


def _reached(meta: dict[str, Any]) -> str:
    if meta.get("best_share") is None or not meta.get("restart_log_likelihoods"):
        return ""
    total = len(meta["restart_log_likelihoods"])
    return f"{_times_reached(meta)} of {total} starts"


def _sizes(model: Model) -> np.ndarray | None:
    total = _known(model).get("weight_sum")
    return None if total is None else np.asarray(model.params.weights, np.float64) * total


def _score(model: Model) -> float | None:
    meta = _known(model)
    total, value = meta.get("weight_sum"), meta.get("log_likelihood")
    return None if not total or value is None else value / total


def _names(model: Model) -> list[str]:
    return list(model.columns or (f"x{i}" for i in range(model.n_features)))


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _or_blank(value: Any) -> str:
    return "" if value is None else str(value)


def _decimal(value: float | None) -> str:
    return "" if value is None else _fixed(value, 17, 4)


def _fixed(value: float, width: int, decimals: int) -> str:
    """With so many decimals, or in scientific notation where that would be wider than `width`."""
    text = f"{value:.{decimals}f}"
    return text if len(text) <= width else f"{value:.{width - 8}g}"


def _short(value: float) -> str:
    """At most `_CELL` characters, with as many digits as that allows, five at most."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return next(text for digits in (5, 4, 3, 2) if len(text := f"{value:#.{digits}g}") <= _CELL)


def _size(value: float) -> str:
    return _fixed(value, 8, 1)


def clip(name: str, width: int) -> str:
    """`name` in at most `width` characters, all of them printable."""
    name = "".join(c if c.isprintable() else "?" for c in name)
    return name if len(name) <= width else name[: width - 2] + ".."
