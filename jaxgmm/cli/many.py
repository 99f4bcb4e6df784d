"""``jaxgmm fit-many``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgmm._interrupt import heeding_signals
from jaxgmm._status import FitError, Status
from jaxgmm.cli import inputs
from jaxgmm.cli.output import Console
from jaxgmm.cli.parser import Settings
from jaxgmm.cli.writing import Piece, write_table
from jaxgmm.data import Table
from jaxgmm.many import ManyResult, fit_many as fit_groups

_COLUMNS = ("n_samples", "n_components", "log_likelihood", "aic", "bic", "icl", "n_iter", "status")


def fit_many(settings: Settings, console: Console) -> int:
    """Fit every group, write one line for each, and the parameters where they are asked for.

    Returns 0, or the exit code of an interruption: then there is a line for each group all the same, with the status
    INTERRUPTED and no numbers where it had not begun.
    """
    seed = inputs.start_seed(settings, console)
    table = inputs.rows(settings | {"label_column": settings["group"]})
    x = inputs.scaled(table.x, settings | {"standardize": False}).z
    assert table.labels is not None
    with heeding_signals(console.interrupted) as wish:
        console.note(f"{table.source}: {len(x)} rows x {x.shape[1]} columns, {x.dtype}")
        result = fit_groups(
            x,
            settings["n_components"],
            groups=table.labels,
            covariance_type=settings["covariance_type"],
            criterion=settings["criterion"],
            **inputs.fit_arguments(settings, table, seed),
        )
        names = [table.label_names[label] if table.label_names else label for label in result.keys]
        _complain(result, names, table.columns, console, interrupted=bool(wish.exit_code))
        rows = [
            {"group": name} | {k: v for k, v in row.items() if k != "set"}
            for name, row in zip(names, result.table(table.columns), strict=True)
        ]
        if settings["output"] or not console.json:
            columns = [np.array([row.get(name, "") for row in rows], object) for name in ("group", *_COLUMNS)]
            write_table(settings["output"], ["group", *_COLUMNS], [Piece(columns, columns[0])])
        if settings["parameters_to"]:
            header, lines = _parameters(result, names, table)
            write_table(settings["parameters_to"], header, [Piece(lines, lines[0])])
        for path in filter(None, (settings["output"], settings["parameters_to"])):
            console.note(f"wrote {path}")
    found = {"command": "fit-many", "source": table.source, "seed": seed, "criterion": result.criterion}
    if wish.exit_code:
        found_out = "interrupted; the groups that had begun are kept as far as they came"
        console.warn("W309", found_out, "see the column status")
        found["exit_code"] = wish.exit_code
    for i, row in enumerate(rows):
        if wrong := result.diagnoses(i):
            row["diagnoses"] = [d.as_dict(table.columns) for d in wrong]
    console.emit(found | {"failed": int(np.sum(~result.fitted)), "groups": rows})
    return wish.exit_code


def _complain(
    result: ManyResult, names: list[Any], columns: Sequence[str], console: Console, *, interrupted: bool
) -> None:
    """Say how many groups have no fit, or one that did not converge; nothing to keep is an error."""
    failed = np.flatnonzero(~result.fitted)
    if len(failed):
        why = result.failures[failed[0]]
        assert why is not None
        first = f"group {names[failed[0]]!r}: {why.named(columns).found}"
        if len(failed) == len(names):
            raise FitError(
                "E304",
                f"no group could be fitted; {first}",
                "ask for fewer components, raise --reg-covar, or leave such groups out",
                Status.SINGULAR,
            )
        console.fault(
            "W306", f"{len(failed)} of {len(names)} groups could not be fitted; {first}", "see the column status"
        )
    empty = np.flatnonzero(result.empty_components)
    if len(empty):
        found = (
            f"a component has lost all its rows in {len(empty)} of {len(names)} groups, first in {names[empty[0]]!r}"
        )
        console.fault("W303", found, "ask for fewer components")
    thin = np.flatnonzero(result.degenerate & (result.empty_components == 0))
    if len(thin):
        first = "; ".join(d.text(columns) for d in result.diagnoses(int(thin[0])))
        found = f"{len(thin)} of {len(names)} groups have a degenerate component; group {names[thin[0]]!r}: {first}"
        console.fault("W307", found, "ask for fewer components, or drop what does not vary")
    open_ = int(np.sum(result.fitted & ~result.converged))
    if open_ and not interrupted:
        console.fault(
            "W301", f"{open_} of {len(names)} fits did not converge", "see the column status, raise --max-iter or --tol"
        )


def _parameters(result: ManyResult, names: list[Any], table: Table) -> tuple[list[str], list[Any]]:
    """One line per group and component: weight, mean, and the upper triangle of the covariance matrix."""
    first, second = np.triu_indices(len(table.columns))
    header = ["group", "component", "weight", *(f"mean_{c}" for c in table.columns)]
    header += [f"cov_{table.columns[i]}_{table.columns[j]}" for i, j in zip(first, second, strict=True)]
    lines: list[list[Any]] = []
    for name, fit in zip(names, result.fits, strict=True):
        if fit is None:
            continue
        params = fit.params
        matrices = np.asarray(params.family.to_full(params.covariances, params.n_components, params.n_features))
        for k in range(params.n_components):
            lines.append([name, k, params.weights[k], *params.means[k], *matrices[k][first, second]])
    return header, [np.array([line[i] for line in lines], object) for i in range(len(header))]
