"""What the HTML page and the Markdown card say of a model: facts, guarded, and sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxgmm._status import Status, cause, cure
from jaxgmm.model import Model
from jaxgmm.report._text import (
    MAX_COMPONENTS as MAX_COMPONENTS,
    _count,
    _fixed,
    _is_count,
    _is_number,
    _is_text,
    _known,
    _names,
    _reached,
    _score,
    _sizes,
    _times_reached,
    clip,
)

MAX_COLUMNS = 8
MAX_STARTS = 30
MAX_CANDIDATES = 100
# Above this, 1 − the largest responsibility, a row is said to be uncertain.
UNCERTAIN = 0.1
NUMBERS = ("log_likelihood", "n_parameters", "aic", "bic", "icl")
_LABELS = {"log_likelihood": "log-likelihood", "n_parameters": "free parameters", "n_components": "components"}


def _list_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(fits, value))


def _is_candidate(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and _is_text(row.get("covariance_type"))
        and _is_count(row.get("n_components"))
        and _is_text(row.get("status"))
        and all(v is None or _is_text(v) or _is_number(v) for v in row.values())
    )


def _is_sweep(value: Any) -> bool:
    if not isinstance(value, dict) or not _is_text(value.get("criterion")) or not value.get("table"):
        return False
    return _list_of(_is_candidate)(value["table"])


# What a fit or the shell may have written beside the facts of the summary.
_MORE: dict[str, Callable[[Any], bool]] = {
    "restart_status": _list_of(_is_text),
    "restart_n_iter": _list_of(_is_count),
    "best_restart": _is_count,
    "device": lambda value: isinstance(value, dict),
    "sweep": _is_sweep,
    "command": _list_of(_is_text),
    "source": _is_text,
}


def known(model: Model) -> dict[str, Any]:
    """All that meta tells in the form in which a fit writes it; anything else is left out."""
    return _known(model) | {n: model.meta[n] for n, fits in _MORE.items() if n in model.meta and fits(model.meta[n])}


def in_words(stop: str) -> str:
    """A stop code by its name, in words; what is no stop code as it is."""
    return cause(Status[stop]) if stop in Status.__members__ else stop


def label(name: str) -> str:
    """The name of a fact for the reader."""
    return _LABELS.get(name, name.upper() if name in ("aic", "bic", "icl") else name.replace("_", " "))


def heading(model: Model) -> str:
    """What the model is, in one line."""
    parts = _count(model.n_components, "component"), _count(model.n_features, "column")
    return f"Gaussian mixture of {parts[0]}, {model.covariance_type} covariance, {parts[1]}"


def verdict(model: Model) -> tuple[str, str]:
    """ "good", "doubtful" or "unknown", and a few sentences that say why."""
    meta = known(model)
    code, diagnoses = meta.get("status", ""), meta.get("diagnoses") or []
    converged = meta.get("converged", code == Status.CONVERGED.name if code else None)
    if converged is None:
        return "unknown", "How this mixture came about is not recorded: the file holds its parameters only."
    said = []
    if converged:
        said.append("The fit converged: the change of the log-likelihood fell below the tolerance.")
    elif code in Status.__members__:
        why = cause(Status[code]).removeprefix("not converged: ")
        said.append(f"The fit did not converge ({why}), so its numbers are not final; {cure(Status[code])}.")
    else:
        said.append("The fit did not converge, so its numbers are not final.")
    said += filter(None, [starts_in_words(meta)])
    if diagnoses:
        said.append(f"There {_is_are(len(diagnoses), 'diagnosis', 'diagnoses')} of degenerate components.")
    return ("good" if converged and not diagnoses else "doubtful"), " ".join(said)


def starts_in_words(meta: dict[str, Any]) -> str:
    """How many starts reached the best optimum and what that means; nothing where it is not known."""
    if not _reached(meta):
        return ""
    total, reached = len(meta["restart_log_likelihoods"]), _times_reached(meta)
    if total == 1:
        return "It was started once, so nothing tells whether another start would have ended higher."
    if reached == total:
        return f"All {total} starts reached the same optimum."
    if reached == 1:
        return f"Only 1 of {total} starts reached the best optimum, so there may be a better one: try more starts."
    return f"{reached} of {total} starts reached the best optimum."


def summary(model: Model) -> list[tuple[str, str, Any]]:
    """The facts that are known, as (name in `summary_dict`, name for the reader, value)."""
    meta = known(model)
    found = [
        ("n_samples", "rows", meta.get("n_samples")),
        ("weight_sum", "sum of weights", meta.get("weight_sum")),
        ("n_features", "columns", model.n_features),
        ("n_components", "components", model.n_components),
        ("covariance_type", "covariance type", model.covariance_type),
        ("n_parameters", "free parameters", meta.get("n_parameters")),
        ("log_likelihood", "log-likelihood", meta.get("log_likelihood")),
        ("score", "mean log-likelihood per row", _score(model)),
        ("converged", "converged", None if "converged" not in meta else "yes" if meta["converged"] else "no"),
        ("n_iter", "iterations", meta.get("n_iter")),
        ("remaining_gain", "estimated gain still to come", meta.get("remaining_gain")),
        ("best_share", "best optimum reached by", _reached(meta) or None),
        (
            "standardized",
            "fitted on",
            "standardized columns; numbers here are in data units" if is_scaled(model) else None,
        ),
    ]
    if meta.get("weight_sum") == meta.get("n_samples"):
        found = [fact for fact in found if fact[0] != "weight_sum"]
    return [fact for fact in found if fact[2] is not None]


def is_scaled(model: Model) -> bool:
    """Whether the columns were standardized for the fit."""
    return bool((model.scale != 1).any())


@dataclass(frozen=True, kw_only=True)
class Components:
    """The heaviest components and the first columns: which (shown), their numbers, and what is left out, in words."""

    shown: list[int]
    columns: list[str]
    weights: np.ndarray
    sizes: np.ndarray | None
    means: np.ndarray
    deviations: np.ndarray
    rest: str


def components(model: Model) -> Components:
    """At most `MAX_COMPONENTS` components and `MAX_COLUMNS` columns."""
    weights, width = np.asarray(model.params.weights, np.float64), min(model.n_features, MAX_COLUMNS)
    shown = np.sort(np.argsort(-weights, kind="stable")[:MAX_COMPONENTS]).tolist()
    rest = [(model.n_components - len(shown), "lighter component"), (model.n_features - width, "column")]
    left = " and ".join(_count(n, what) for n, what in rest if n)
    return Components(
        shown=shown,
        columns=[clip(name, 24) for name in _names(model)[:width]],
        weights=weights,
        sizes=_sizes(model),
        means=model.data_means[:, :width],
        deviations=model.data_std[:, :width],
        rest=f"and {left} more: jaxgmm summary --json shows all" if left else "",
    )


@dataclass(frozen=True, kw_only=True)
class Start:
    """One restart: how it ended; log_likelihood is None where it led to nothing."""

    number: int
    n_iter: int | None
    log_likelihood: float | None
    stop: str
    best: bool


def starts(model: Model) -> tuple[list[Start], str]:
    """At most `MAX_STARTS` restarts in their order, the highest of them all, and what is left out, in words."""
    meta = known(model)
    likelihoods = meta.get("restart_log_likelihoods") or []
    stops, counts = (meta.get(name) or [] for name in ("restart_status", "restart_n_iter"))
    found = [
        Start(
            number=r,
            n_iter=counts[r] if len(counts) == len(likelihoods) else None,
            log_likelihood=value,
            stop=stops[r] if len(stops) == len(likelihoods) else "",
            best=r == meta.get("best_restart"),
        )
        for r, value in enumerate(likelihoods)
    ]
    order = sorted(found, key=lambda s: (not s.best, s.log_likelihood is None, -(s.log_likelihood or 0.0)))
    rest = Counter(start.stop.lower() or "of unknown end" for start in order[MAX_STARTS:])
    words = ", ".join(f"{n} {stop}" for stop, n in sorted(rest.items()))
    shown = sorted(order[:MAX_STARTS], key=lambda s: s.number)
    return shown, f"and {len(order) - MAX_STARTS} more, none of them higher: {words}" if words else ""


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The table of a sweep: the rows that are shown, the columns of numbers, the winner (its row, or None)."""

    criterion: str
    numbers: list[str]
    rows: list[dict[str, Any]]
    best: int | None
    larger_is_better: bool
    edge: str
    rest: str


def candidates(model: Model) -> Candidates | None:
    """The sweep that chose the model, or None."""
    sweep = known(model).get("sweep")
    if sweep is None:
        return None
    criterion, table = sweep["criterion"], sweep["table"]
    larger = criterion in ("silhouette", "log_likelihood")
    scored = [(row[criterion], i) for i, row in enumerate(table) if _is_number(row.get(criterion))]
    best = (max if larger else min)(scored, key=lambda pair: pair[0])[1] if scored else None
    counts = sorted({row["n_components"] for row in table})
    edge = ""
    if best is not None and len(counts) > 1:
        n = table[best]["n_components"]
        if n == counts[-1]:
            edge = f"The chosen count, {n}, is the largest one tried: better ones may lie beyond."
        elif n == counts[0] and n > (2 if criterion == "silhouette" else 1):
            edge = f"The chosen count, {n}, is the smallest one tried: better ones may lie below."
    order = sorted(range(len(table)), key=lambda i: (i != best, i))[:MAX_CANDIDATES]
    order.sort()
    left = len(table) - len(order)
    return Candidates(
        criterion=criterion,
        numbers=list(dict.fromkeys([*NUMBERS, criterion])),
        rows=[table[i] for i in order],
        best=None if best is None else order.index(best),
        larger_is_better=larger,
        edge=edge,
        rest=f"and {_count(left, 'candidate')} more" if left else "",
    )


def origin(model: Model) -> list[tuple[str, str]]:
    """Where the model came from: (name, value) of what is known."""
    meta = known(model)
    found: list[tuple[str, Any]] = [(name, meta.get(name)) for name in ("source", "fingerprint", "seed", "init")]
    found = [({"source": "data", "fingerprint": "data fingerprint (SHA-256)"}.get(n, n), v) for n, v in found]
    found += [("kernel", meta.get("kernel")), ("precision", str(model.params.means.dtype))]
    found.append(("options", _pairs(options_of(model), "{} = {}")))
    found.append(("versions", _pairs(meta.get("versions"), "{} {}")))
    device = meta.get("device") or {}
    found.append(("device", ", ".join(dict.fromkeys(str(v) for v in device.values() if v is not None))))
    return [(name, str(value)) for name, value in found if value not in (None, "")]


def options_of(model: Model) -> dict[str, Any]:
    """The options on record, with as few digits as give the same number in the precision of the fit."""
    dtype = model.params.means.dtype.type
    options = known(model).get("options") or {}
    with np.errstate(over="ignore"):
        return {n: float(str(dtype(v))) if isinstance(v, float) and dtype(v) == v else v for n, v in options.items()}


def _pairs(value: Any, form: str) -> str:
    return ", ".join(form.format(name, v) for name, v in (value or {}).items() if not isinstance(v, (dict, list)))


def limits(model: Model) -> list[str]:
    """What a user of the model should know before trusting it, from the facts."""
    meta, sweep = known(model), candidates(model)
    state, words = verdict(model)
    found = [words] if state != "good" else list(filter(None, [starts_in_words(meta)]))
    found += [sweep.edge] if sweep is not None and sweep.edge else []
    n_parameters, total = meta.get("n_parameters"), meta.get("weight_sum")
    if n_parameters and total is not None:
        found.append(
            f"{total:g} rows stand against {n_parameters} free parameters, {total / n_parameters:.3g} for each."
        )
    if meta.get("log_likelihood") is not None:
        found.append("Likelihoods and criteria are those of the fitted rows, not of new ones.")
    return [
        *found,
        "A component is a Gaussian; whether it is a class of its own is not for the mixture to say.",
        "Every row is given a component, however far from all of them it lies: look at its log-likelihood too.",
    ]


def decimal(value: float) -> str:
    """A likelihood or a criterion, with four decimals where they fit."""
    return _fixed(value, 17, 4)


def _is_are(n: int, one: str, many: str) -> str:
    return f"is {n} {one}" if n == 1 else f"are {n} {many}"


def listed(names: list[str], most: int) -> str:
    """Names in a row, those beyond `most` counted."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
