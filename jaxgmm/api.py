"""`fit` and `sweep`: check the input once, prepare the rows, run the lanes, choose."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxgmm._checks import check_count, check_data, check_key, check_rows_for, precision_context, too_few_orthants
from jaxgmm._interrupt import Interrupted
from jaxgmm._options import check_choice, default_reg_covar, em_options
from jaxgmm._status import FitError, UsageError, choose
from jaxgmm.covariance import get_family
from jaxgmm.data.rows import Rows
from jaxgmm.em.accelerate import check_acceleration
from jaxgmm.em.recording import Recording
from jaxgmm.em.restarts import DEGENERATE, Method, fit_rows
from jaxgmm.em.result import FitResult, SweepResult
from jaxgmm.functional import check_orthant_features, count_orthants, predict, rows_of, silhouette
from jaxgmm.init import get_start
from jaxgmm.init.given import check_start
from jaxgmm.kernels import check_kernel
from jaxgmm.params import GMMParams
from jaxgmm.prior import Prior, prior_for
from jaxgmm.scale.checkpoint import EVERY, Checkpoints, describe
from jaxgmm.scale.choose import as_source, in_memory, to_stream, weighted
from jaxgmm.scale.processes import group
from jaxgmm.scale.stream import Stream, open_stream

RESUME = ("never", "auto")
HISTORY = ("log_likelihood", "params")
# Arguments that may be others when a run goes on.
_NOT_FACTS = ("x", "sample_weight", "checkpoint", "checkpoint_every", "resume", "lane_devices", "history")

CRITERIA = ("bic", "aic", "icl", "silhouette")


def check_init(
    init: Any, rows: Rows, candidates: Sequence[int], covariance_type: str, key: Any, n_restarts: int
) -> tuple[str | list[GMMParams], jax.Array | None]:
    """The start (a method's name or lanes of parameters) and one key per restart, None where nothing is drawn."""
    if isinstance(init, GMMParams):
        return [check_start(init, rows.n_features, candidates, covariance_type)], None
    method = get_start(init)
    if method.name == "orthant":
        check_orthant_features(rows.n_features)
        occupied = int(np.count_nonzero(count_orthants(rows)))
        if occupied < max(candidates):
            raise too_few_orthants(occupied, max(candidates))
    if not method.random:
        return method.name, jax.random.split(jax.random.key(0), 1)
    return method.name, jax.random.split(check_key(key, f"init={init!r}"), n_restarts)


def fit(
    x: Any,
    n_components: int,
    *,
    covariance_type: str = "full",
    key: Any = None,
    n_restarts: int = 1,
    init: str | GMMParams = "kmeans",
    tol: float = 1e-8,
    tol_kind: str = "change",
    reg_covar: float | None = None,
    reg_kind: str = "relative",
    prior: Prior | str | None = None,
    max_iter: int = 1000,
    accelerate: str | None = None,
    sample_weight: Any = None,
    kernel: str = "auto",
    keep_restarts: int | None = None,
    degenerate: str = "keep",
    batch_size: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = EVERY,
    resume: str = "never",
    lane_devices: int = 1,
    history: str = "log_likelihood",
) -> FitResult:
    """Fit a Gaussian mixture by EM and return the best of `n_restarts` independent starts.

    Maximises ℓ = Σ_n v_n log Σ_k w_k N(x_n | μ_k, Σ_k) until |Δℓ| <= tol (1 + |ℓ|). All restarts run as
    lanes of one compiled program.

    x: (N, D) numbers, N >= K; float64 is computed in float64, float32 in float32, integers as float64.
    n_components: K >= 1. covariance_type: a name in `COVARIANCE_TYPES` or an mclust code. key: a JAX random
    key or an integer seed; required unless the start is deterministic. n_restarts: R independent starts; a
    deterministic start runs once. init: a name in `INIT_METHODS`, or `GMMParams` to start from. tol: relative.
    tol_kind: what must be so small: ``"change"``, that of the last iteration, or ``"aitken"``, an estimate of all that
    is still to be gained, for slow fits. reg_covar: added to covariance diagonals, 1e-6 if None (0 with a prior), in
    units of the variance of each feature; reg_kind ``"absolute"``: in data units squared. prior: a `Prior`,
    ``"default"`` for mclust's, or None; with one, ℓ plus its logarithm is maximised, which keeps covariances regular.
    max_iter: largest number of passes over the rows. accelerate: ``"squarem"`` and ``"anderson"`` extrapolate where EM
    creeps, ``"lbfgs"`` takes quasi-Newton steps, never to a lower objective; None is plain EM. sample_weight: (N).
    kernel: how densities and moments are computed: ``"features"`` is faster, ``"whitening"`` never loses digits,
    ``"auto"`` takes the first where a bound computed from the parameters says that it loses nothing that matters, and
    changes over when it no longer does. keep_restarts: after a short run only so many restarts go on, the others end as
    DROPPED; None: all. degenerate: what to do about components that lost their rows or rest on hardly anything:
    ``"keep"`` them with a diagnosis, ``"drop"`` them, ``"revive"`` them where another component covers most scatter, or
    ``"raise"`` a `FitError`. batch_size: rows at a time of a stream: see below; None where they fit into memory.
    checkpoint: a directory in which a stream keeps its state every `checkpoint_every` seconds; with ``resume="auto"``
    the same call goes on from what is there. lane_devices: where there are several devices, so many of them share the
    restarts, and only the rest the rows. history: ``"params"`` keeps the parameters of every iteration of the winner as
    well (``result.params_history``), for a film of the fit.

    x may also be a memory map, a data set of HDF5 or zarr, a list (or anything that can be gone through again and
    again) of arrays, or the name of a file, a folder or a pattern, or what `scan_table` returns for them. What takes
    more than half of the free memory, or is fitted with a `batch_size`, is streamed: each pass reads the rows batch
    after batch and keeps only statistics, one pass for an iteration of all restarts. The result is the same as in
    memory; starts come from a random sample of 65,536 rows where there are more.

    Returns a `FitResult`; look at ``converged``, ``message`` and ``best_share``. Raises `DataError` or
    `UsageError` for input that cannot be used and `FitError` when no start gave a finite model.

    >>> x = np.concatenate([np.linspace(-6, -4, 50), np.linspace(4, 6, 50)])[:, None]
    >>> result = fit(x, 2, key=0)
    >>> result.converged, np.sort(result.params.means[:, 0]).round(3).tolist()
    (True, [-5.0, 5.0])
    """
    n_components = check_count(n_components, "n_components")
    given = dict(locals())
    family = get_family(covariance_type).name
    outcome = _fit_cells(
        *prepared(given, n_components),
        [n_components],
        [family],
        key=key,
        n_restarts=n_restarts,
        init=init,
        tol=tol,
        tol_kind=tol_kind,
        reg_covar=reg_covar,
        reg_kind=reg_kind,
        prior=prior,
        max_iter=max_iter,
        accelerate=accelerate,
        kernel=kernel,
        keep_restarts=keep_restarts,
        degenerate=degenerate,
        record=_check_history(history, given),
    )[family, n_components]
    if isinstance(outcome, FitError):
        raise outcome
    return outcome


def _fit_cells(
    rows: Rows,
    stream: Stream | None,
    counts: Sequence[int],
    families: Sequence[str],
    *,
    key: Any,
    n_restarts: int,
    init: Any,
    tol: float,
    tol_kind: str,
    reg_covar: float | None,
    reg_kind: str,
    prior: Prior | str | None,
    max_iter: int,
    accelerate: str | None,
    kernel: str,
    keep_restarts: int | None,
    degenerate: str,
    record: bool = False,
) -> dict[tuple[str, int], FitResult | FitError]:
    """What came of every covariance type and component count; the arguments are those of `fit`, checked here.

    record: keep the parameters of every iteration of the winning restart.
    """
    cells: dict[tuple[str, int], FitResult | FitError] = {}
    with precision_context(rows.dtype):
        start, keys = check_init(init, rows, counts, families[0], key, check_count(n_restarts, "n_restarts"))
        options = em_options(
            rows.dtype,
            tol=tol,
            tol_kind=tol_kind,
            reg_covar=default_reg_covar(reg_covar, prior),
            reg_kind=reg_kind,
            max_iter=max_iter,
        )
        method = Method(
            kernel=check_kernel(kernel),
            accelerate=check_acceleration(accelerate),
            keep_restarts=None if keep_restarts is None else check_count(keep_restarts, "keep_restarts"),
            degenerate=check_choice(degenerate, "degenerate", DEGENERATE),
        )
        if stream is not None:
            run = partial(stream.run, kernel=method.kernel, accelerate=method.accelerate)
            method = dataclasses.replace(method, run=run)
        recording = Recording(stream, method.kernel, method.accelerate)
        if record:
            method = dataclasses.replace(method, run=recording.run)
        for family in families:
            found = fit_rows(
                rows,
                counts,
                covariance_type=family,
                init=start,
                keys=keys,
                options=options,
                how=dataclasses.replace(method, prior=prior_for(prior, family, rows.n_features)),
            )
            cells |= {(family, n): found[n] for n in counts}
        for cell, outcome in cells.items():
            if record and isinstance(outcome, FitResult):
                path = recording.path(outcome.best_restart, rows, outcome.n_components)
                cells[cell] = dataclasses.replace(outcome, params_history=path)
    return cells


def _check_history(history: str, given: dict[str, Any]) -> bool:
    """Whether parameters are to be kept; `UsageError` beside what runs some lanes anew, or goes on from a file."""
    if check_choice(history, "history", HISTORY) == "log_likelihood":
        return False
    for name, usual in (("keep_restarts", (None,)), ("degenerate", ("keep", "raise")), ("checkpoint", (None,))):
        if given[name] not in usual:
            found = f"history='params' does not go with {name}={given[name]!r}"
            raise UsageError("E107", found, "leave one of the two out")
    return True


def prepared(given: dict[str, Any], n_components: int) -> tuple[Rows, Stream | None]:
    """Data and weights checked, and prepared for the device: all rows, or a sample of them and the stream of all.

    given: the arguments of `fit` or `sweep`. n_components: the largest.
    """
    x, sample_weight, batch_size, key = (given[name] for name in ("x", "sample_weight", "batch_size", "key"))
    batch_size = None if batch_size is None else check_count(batch_size, "batch_size")
    lane_devices = check_count(given["lane_devices"], "lane_devices")
    n_devices = len(jax.local_devices())
    if lane_devices > n_devices:
        found = f"lane_devices is {lane_devices}, but this process sees {n_devices} device{'s' * (n_devices != 1)}"
        raise UsageError("E108", found, f"ask for at most {n_devices}")
    every = given["checkpoint_every"]
    if isinstance(every, bool) or not isinstance(every, (int, float, np.number)) or not every >= 0:
        raise UsageError("E108", f"checkpoint_every must be seconds, got {every!r}", "for example checkpoint_every=300")
    if not isinstance(given["checkpoint"], (str, os.PathLike, type(None))):
        raise UsageError("E108", f"checkpoint must name a directory, got {given['checkpoint']!r}", "give its path")
    folder, resume = given["checkpoint"], check_choice(given["resume"], "resume", RESUME)
    own = as_source(x)
    if own is not None:
        x, sample_weight = weighted(own, sample_weight), None
    source = to_stream(x, sample_weight, batch_size, asked=folder is not None)
    hold = source is None and (n_devices > 1 or group().count > 1)
    if hold:
        # Several devices share the rows, which fit and so stay on them.
        source = to_stream(x, sample_weight, batch_size, asked=True)
    if source is None:
        if own is not None:
            x, sample_weight = in_memory(x)
        return checked_rows(x, n_components, sample_weight), None
    with precision_context(source.dtype):
        seed = 0 if key is None else int(np.asarray(jax.random.key_data(check_key(key, "fit"))).ravel()[-1])
        rows, stream = open_stream(source, batch_size, seed, hold=hold, lane_devices=lane_devices)
        check_rows_for(n_components, np.asarray(rows.weight))
    if folder is not None:
        facts = {"rows": stream.n_samples, "columns": rows.n_features, "dtype": str(rows.dtype)}
        facts["digest of the data"] = stream.digest
        given = given | {"batch_size": batch_size}
        facts |= {name: describe(value) for name, value in given.items() if name not in _NOT_FACTS}
        cut = [stream.batch_size, stream.members.count]
        kept = Checkpoints(folder, float(every), facts, cut, resume=resume == "auto", members=stream.members)
        stream = dataclasses.replace(stream, checkpoints=kept)
    return rows, stream


def checked_rows(x: Any, n_components: int, sample_weight: Any) -> Rows:
    """Data and weights checked, and prepared for the device."""
    table = check_data(x)
    rows = rows_of(table, sample_weight)
    check_rows_for(n_components, np.asarray(rows.weight))
    return rows


def _check_candidates(candidates: Iterable[int]) -> list[int]:
    if isinstance(candidates, (int, np.integer)):
        candidates = [int(candidates)]
    if not isinstance(candidates, Iterable):
        raise UsageError(
            "E108", f"candidates must be component counts, got {candidates!r}", "for example candidates=range(1, 11)"
        )
    counts = [check_count(n, "each candidate number of components") for n in candidates]
    if not counts:
        raise UsageError("E140", "candidates is empty", "give component counts such as range(1, 11)")
    return sorted(set(counts))


def sweep(
    x: Any,
    candidates: Iterable[int] = range(1, 11),
    *,
    covariance_types: str | Sequence[str] = ("full",),
    criterion: str = "bic",
    key: Any = None,
    n_restarts: int = 1,
    init: str = "kmeans",
    tol: float = 1e-8,
    tol_kind: str = "change",
    reg_covar: float | None = None,
    reg_kind: str = "relative",
    prior: Prior | str | None = None,
    max_iter: int = 1000,
    accelerate: str | None = None,
    sample_weight: Any = None,
    kernel: str = "auto",
    keep_restarts: int | None = None,
    degenerate: str = "keep",
    batch_size: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = EVERY,
    resume: str = "never",
    lane_devices: int = 1,
) -> SweepResult:
    """Fit every component count and covariance type, and choose by a criterion.

    For each covariance type all (count, restart) pairs run as lanes of one program, padded to a common
    number of components. candidates: component counts J. criterion: ``"bic"``, ``"aic"``, ``"icl"``
    (smaller is better) or ``"silhouette"`` (larger is better; J = 1 has none). The other arguments are those
    of `fit`; a restart's random seeds are shared by all J.

    Returns a `SweepResult`: ``best``, ``table()``, ``at_edge``. A cell in which every restart failed keeps
    its stop code and cannot win; `FitError` only if all cells failed.

    >>> x = np.concatenate([np.linspace(-6, -4, 50), np.linspace(4, 6, 50)])[:, None]
    >>> sweep(x, range(1, 4), covariance_types="diag", key=0).best.n_components
    2
    """
    given = dict(locals())
    counts = _check_candidates(candidates)
    types: list[Any] = list(covariance_types) if isinstance(covariance_types, (list, tuple)) else [covariance_types]
    families = list(dict.fromkeys(get_family(name).name for name in types))
    if not families:
        raise UsageError("E140", "covariance_types is empty", "give at least one, such as 'full'")
    if criterion not in CRITERIA:
        raise UsageError("E109", f"unknown criterion {criterion!r}", choose(criterion, CRITERIA))
    if not isinstance(init, str):
        raise UsageError(
            "E143",
            "a sweep needs a start method by name: one set of starting parameters fits one count only",
            "for example init='kmeans'",
        )
    rows, stream = prepared(given | {"candidates": counts}, max(counts))
    kept = stream is None or stream.held is not None
    if criterion == "silhouette" and (not kept or as_source(x) is not None):
        found = "a silhouette compares every row with all others, which a stream cannot"
        raise UsageError("E111", found, "choose bic, aic or icl")
    outcomes = _fit_cells(
        rows,
        stream,
        counts,
        families,
        key=key,
        n_restarts=n_restarts,
        init=init,
        tol=tol,
        tol_kind=tol_kind,
        reg_covar=reg_covar,
        reg_kind=reg_kind,
        prior=prior,
        max_iter=max_iter,
        accelerate=accelerate,
        kernel=kernel,
        keep_restarts=keep_restarts,
        degenerate=degenerate,
    )
    fits = tuple(None if isinstance(o, FitError) else o for o in outcomes.values())
    failures = tuple(o.status if isinstance(o, FitError) else None for o in outcomes.values())

    def values_of(name: str) -> np.ndarray:
        return np.array([np.nan if f is None else _criterion_value(f, name, x, sample_weight) for f in fits])

    try:
        values = values_of(criterion)
    except Interrupted:  # a silhouette takes long
        criterion, values = "bic", values_of("bic")
    if np.isnan(values).all():
        for outcome in outcomes.values():
            if isinstance(outcome, FitError):
                raise outcome
        raise UsageError("E111", f"no candidate in {counts} has a {criterion}", "try counts of at least 2")
    return SweepResult(cells=tuple(outcomes), fits=fits, failures=failures, values=values, criterion=criterion)


def _criterion_value(result: FitResult, criterion: str, x: Any, sample_weight: Any) -> float:
    if criterion != "silhouette":
        return float(getattr(result, criterion))
    labels = predict(result.params, x)
    return silhouette(x, labels, sample_weight) if len(np.unique(labels)) > 1 else float("nan")
