"""``jaxgmm fit`` and ``jaxgmm sweep``."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from jaxgmm import api, io, report
from jaxgmm._interrupt import Wish, heeding_signals
from jaxgmm._pytree import replace
from jaxgmm._status import FitError, Status, UsageError, cause, cure
from jaxgmm.cli import inputs, joining, progress
from jaxgmm.cli.comparing import compare, compare_with
from jaxgmm.cli.output import Console
from jaxgmm.cli.parser import Settings
from jaxgmm.data import Table
from jaxgmm.data.batches import is_source
from jaxgmm.em.result import FitResult, SweepResult
from jaxgmm.functional import silhouette
from jaxgmm.model import Model


def fit(settings: Settings, console: Console) -> int:
    """Fit one mixture, write it and print its summary; 0, or the exit code of an interruption."""
    _check_pictures(settings)
    joining.join(settings, console)
    start = io.load(settings["init_from"]) if settings["init_from"] else None
    table = inputs.rows_for(start, settings) if start else inputs.rows(settings)
    n_components = settings["n_components"] or (start.n_components if start else 0)
    covariance_type = settings["covariance_type"] or (start.covariance_type if start else "full")
    seed = inputs.start_seed(settings, console)
    scaled = inputs.scaled(table.x, settings, start)
    with heeding_signals(console.interrupted) as wish, progress.shown(console):
        _refuse_silhouette(table, settings)
        _announce(console, table, scaled.z, f"{n_components} component{'s' * (n_components != 1)}")
        arguments = inputs.fit_arguments(settings, table, seed) | ({"init": start.params} if start else {})
        try:
            result = api.fit(scaled.z, n_components, covariance_type=covariance_type, **arguments)
        except FitError as error:
            raise error.named(table.columns) if error.diagnoses else error from None
        model = _finish(result, table, scaled, seed, settings, console)
    found: dict[str, Any] = {"command": "fit"}
    if settings["criterion"] == "silhouette" and not wish.exit_code:
        labels = model.predict(table.x)
        if len(np.unique(labels)) < 2:
            console.warn(
                "W305", "all rows belong to one component, so there is no silhouette", "ask for more components"
            )
        else:
            found["silhouette"] = silhouette(scaled.z, labels, table.sample_weight)
            console.result(f"Silhouette score for {n_components} clusters: {found['silhouette']:.4f}")
    console.emit(found | _about(model, table, settings, console, wish))
    return wish.exit_code


def sweep(settings: Settings, console: Console) -> int:
    """Fit all candidates, print their table, write the winner and print its summary; returns what `fit` does."""
    _check_pictures(settings)
    joining.join(settings, console)
    seed = inputs.start_seed(settings, console)
    table = inputs.rows(settings)
    scaled = inputs.scaled(table.x, settings)
    counts, types = settings["candidates"], settings["covariance_type"]
    with heeding_signals(console.interrupted) as wish, progress.shown(console):
        _announce(console, table, scaled.z, f"{len(counts) * len(types)} candidates")
        result = api.sweep(
            scaled.z,
            counts,
            covariance_types=types,
            criterion=settings["criterion"],
            **inputs.fit_arguments(settings, table, seed),
        )
        shown = in_data_units(result, scaled.scale)
        console.result(report.sweep_text(shown))
        if result.criterion == "silhouette":
            console.result(silhouette_lines(shown))
        if not wish.exit_code:
            warn_at_edge(result, console)
        model = _finish(result.best, table, scaled, seed, settings, console, shown)
    found = {
        "command": "sweep",
        "criterion": result.criterion,
        "best": result.best.n_components,
        "best_covariance_type": result.best.covariance_type,
        "at_edge": result.at_edge,
        "table": shown.table(),
    }
    console.emit(found | _about(model, table, settings, console, wish))
    return wish.exit_code


def silhouette_lines(result: SweepResult) -> str:
    """One line for every count that has a silhouette, and one for the best."""
    lines = [
        f"Silhouette score for {n} clusters: {value:.4f}"
        for (_, n), value in zip(result.cells, result.values, strict=True)
        if np.isfinite(value)
    ]
    best = result.values[result.best_index]
    return "\n".join([*lines, f"Found {result.best.n_components} clusters; Silhouette score: {best:.4f}"])


def warn_at_edge(result: SweepResult, console: Console) -> None:
    """Say so when the best count is the first or the last one tried and there are others beyond it."""
    best, last = result.best.n_components, result.candidates[-1]
    # Fewer than two clusters have no silhouette.
    if not result.at_edge or (result.criterion == "silhouette" and best == 2):
        return
    if best == last:
        cure = f"try more: --candidates {result.candidates[0]}-{2 * last}"
        console.warn("W304", f"the best count, {best}, is the largest one tried and better ones may lie beyond", cure)
    else:
        console.warn("W304", f"the best count, {best}, is the smallest one tried", f"try fewer: --candidates 1-{last}")


def warn_of_status(model: Model, console: Console) -> None:
    """Say so when a fit that is kept did not converge, or has a component that is degenerate."""
    status = Status[model.meta["status"]]
    if status not in (Status.CONVERGED, Status.INTERRUPTED):
        code = "W301" if status == Status.MAX_ITER else "W302"
        console.fault(code, f"the fit is kept, but it is {cause(status)}", cure(status))
    empty = np.flatnonzero(np.asarray(model.params.weights) == 0)
    if len(empty):
        left = model.n_components - len(empty)
        found = f"component {empty[0]} has lost all its rows"
        console.fault("W303", found, f"ask for {left} component{'s' * (left != 1)}")
    thin = [d for d in model.meta.get("diagnoses") or () if d["kind"] != "empty"]
    for diagnosis in thin[: report.MAX_DIAGNOSES]:
        console.fault("W307", diagnosis["text"], "ask for fewer components, or drop what does not vary")
    if len(thin) > report.MAX_DIAGNOSES:
        more = len(thin) - report.MAX_DIAGNOSES
        console.fault("W307", f"{more} more components are degenerate", "jaxgmm summary --json lists them all")


def in_data_units(result: SweepResult, scale: Any) -> SweepResult:
    """The sweep of z = (x - shift) / scale with likelihoods and criteria of x: log p(x) = log p(z) - log |scale|."""
    if scale is None:
        return result
    log_scale = math.fsum(np.log(scale))
    fits = tuple(None if fit is None else fit.rescaled(log_scale) for fit in result.fits)
    if result.larger_is_better:
        return dataclasses.replace(result, fits=fits)
    values = np.array([np.nan if fit is None else getattr(fit, result.criterion) for fit in fits])
    return dataclasses.replace(result, fits=fits, values=values)


def _refuse_silhouette(table: Table, settings: Settings) -> None:
    """A silhouette needs all rows in memory."""
    if settings["criterion"] == "silhouette" and is_source(table.x):
        found = "a silhouette compares every row with all others, which a stream cannot"
        raise UsageError("E111", found, "use --criterion bic")


def _announce(console: Console, table: Table, z: Any, what: str) -> None:
    names = ", ".join(table.columns[:6]) + (", ..." if len(table.columns) > 6 else "")
    streamed = is_source(z)
    n_rows = z.n_samples if streamed else len(z)
    console.note(
        f"{table.source}: {'' if n_rows is None else f'{n_rows} rows x '}{len(table.columns)} columns ({names}), "
        f"{z.dtype}{', streamed' * streamed}; fitting {what}"
    )


def _check_pictures(settings: Settings) -> None:
    """Before the fit, which may take long: whether pictures that are asked for can be drawn."""
    if settings["plot"] or settings.get("animate"):
        from jaxgmm.cli import pictures

        pictures.check()


def _finish(
    result: FitResult,
    table: Table,
    scaled: inputs.Scaled,
    seed: int | None,
    settings: Settings,
    console: Console,
    candidates: SweepResult | None = None,
) -> Model:
    """The model written, its summary printed. candidates: what it won against, in data units."""
    model = Model.from_fit(
        result,
        columns=table.columns,
        shift=scaled.shift,
        scale=scaled.scale,
        seed=seed,
        fingerprint=inputs.fingerprint_of(table),
        sweep=candidates,
    )
    model = replace(model, meta=model.meta | {"source": table.source, "command": settings["words"]})
    if joining.writes():
        io.save(settings["output"], model, force=settings["force"])
    console.result(report.summary_text(model, settings["output"]))
    warn_of_status(model, console)
    return model


def _about(model: Model, table: Table, settings: Settings, console: Console, wish: Wish) -> dict[str, Any]:
    """What the JSON object says of a model, with a comparison when the classes of the rows are known."""
    path = settings["output"]
    about = {"source": table.source, "model": path, **report.summary_dict(model)}
    if wish.exit_code:
        again = f"from it with jaxgmm fit {settings['data_path'] or 'DATA'} --init-from {path} -o better.npz"
        if settings.get("checkpoint"):
            again = "with the same command and --resume auto --force"
        console.warn("W309", f"interrupted; the best so far is in {path}", f"go on {again}")
        return about | {"exit_code": wish.exit_code}
    if table.labels is not None:
        about["comparison"] = compare(model.predict(table.x), table, console)
    about |= compare_with(model, table, settings, console)
    console.note(f"wrote {path}")
    if joining.writes() and (settings["plot"] or settings.get("animate")):
        from jaxgmm.cli import pictures

        about["pictures"] = pictures.after_fit(model, table.x, settings, console)
    return about
