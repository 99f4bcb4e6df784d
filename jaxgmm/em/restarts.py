"""From prepared rows to results: starts, lanes, and the best restart of every component count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgmm import _interrupt
from jaxgmm._interrupt import Interrupted
from jaxgmm._numerics import next_power_of_two
from jaxgmm._options import EMOptions, em_options, firmer
from jaxgmm._pytree import put, replace, take
from jaxgmm._status import FitError, Status, cause, cure
from jaxgmm.data.rows import Rows
from jaxgmm.em.diagnosis import Diagnosis, diagnose
from jaxgmm.em.lanes import LanesResult, run_lanes
from jaxgmm.em.repair import REPAIRS, repaired
from jaxgmm.em.result import FitResult
from jaxgmm.init import make_starts
from jaxgmm.params import (
    GMMParams,
    as_dtype,
    pad_components,
    rescale,
    select_components,
    smallest_variance,
    translate,
)
from jaxgmm.prior import Prior, change_of_units, default_prior, rescale_prior

# Device memory that the starts of one chunk of restarts may take (distances of every row to its seeds).
_START_BYTES = 1 << 29
# Iterations of the short run after which the less promising restarts may be dropped.
SHORT_RUN = 15
# Component counts up to this share one padded size; beyond it sizes are padded to powers of two.
_MIN_BUCKET = 8


# What to do about degenerate components.
DEGENERATE = ("keep", *REPAIRS, "raise")


@dataclass(frozen=True)
class Method:
    """How lanes are run, beyond the numbers in `EMOptions`.

    kernel: see `run_lanes`. accelerate: a key of `accelerate.MEMORY`, or None. keep_restarts: see
    `run_most_promising`; None: all. prior: in data units, "default" for mclust's, or None. degenerate: a key of
    `DEGENERATE`. run: what takes all lanes to their stop in the place of EM; None: EM.
    """

    kernel: str = "auto"
    accelerate: str | None = None
    keep_restarts: int | None = None
    prior: Prior | str | None = None
    degenerate: str = "keep"
    run: Callable[[Rows, GMMParams, EMOptions], LanesResult] | None = None


def row_prior(prior: Prior | str | None, rows: Rows, n_components: int, covariance_type: str) -> Prior | None:
    """The prior of mixtures of the centred, scaled rows, in their dtype."""
    if prior is None:
        return None
    if isinstance(prior, Prior):
        own = rescale_prior(prior, rows.offset, rows.scale)
    else:
        own = default_prior(np.zeros(rows.n_features), rows.covariance, n_components, covariance_type)
    return as_dtype(own, rows.dtype)


def component_buckets(candidates: Sequence[int]) -> dict[int, list[int]]:
    """Padded size -> the component counts that share it: few programs, little padding."""
    largest = max(candidates)
    buckets: dict[int, list[int]] = {}
    for n in sorted(set(candidates)):
        buckets.setdefault(min(largest, next_power_of_two(max(n, _MIN_BUCKET))), []).append(n)
    return buckets


def random_starts(
    rows: Rows, keys: jax.Array, active: np.ndarray, init: str, covariance_type: str, reg_covar: Any
) -> GMMParams:
    """Starts of all lanes (J·R, masks outermost), made in chunks of keys so that memory stays bounded."""
    n_masks = len(active)
    per_lane = rows.x.shape[0] * rows.dtype.itemsize * 8 * n_masks
    chunk = max(1, _START_BYTES // per_lane)
    parts = [
        make_starts(
            keys[i : i + chunk],
            rows.x,
            rows.weight,
            jnp.asarray(active),
            reg_covar,
            method=init,
            covariance_type=covariance_type,
        )
        for i in range(0, len(keys), chunk)
    ]
    if len(parts) == 1:
        return parts[0]
    return jax.tree.map(
        lambda *p: np.concatenate([np.asarray(a).reshape(n_masks, -1, *a.shape[1:]) for a in p], axis=1).reshape(
            -1, *p[0].shape[1:]
        ),
        *parts,
    )


def in_row_units(params: GMMParams, rows: Rows) -> GMMParams:
    """Parameters in data units as those of the centred, scaled rows (float64)."""
    return rescale(translate(as_dtype(params, np.float64), -rows.offset), 1.0 / rows.scale)


def in_data_units(params: GMMParams, rows: Rows) -> GMMParams:
    """Parameters of the centred, scaled rows as those of the data, in the dtype of the rows."""
    return as_dtype(translate(rescale(as_dtype(params, np.float64), rows.scale), rows.offset), rows.dtype)


def given_starts(starts: Sequence[GMMParams], rows: Rows, n_components: int) -> GMMParams:
    """Parameters in data units as lanes over prepared rows."""
    prepared = [pad_components(in_row_units(p, rows), n_components) for p in starts]
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(a, rows.dtype) for a in leaves]), *prepared)


def preference(status: int) -> int:
    """Healthy restarts first; one that ended in a singularity often has the highest, meaningless likelihood."""
    return {Status.CONVERGED: 2, Status.MAX_ITER: 2, Status.INTERRUPTED: 2, Status.DECREASED: 1}.get(Status(status), 0)


def _merit(lanes: LanesResult, i: int) -> tuple[int, float]:
    # One that was stopped before its first E-step has nothing to show.
    seen = np.isfinite(lanes.log_likelihood[i])
    return preference(lanes.status[i]) if seen else -1, lanes.log_likelihood[i] + lanes.penalty[i]


def best_restart(lanes: LanesResult) -> int:
    """Index of the restart to return: the healthiest, then the highest objective."""
    return max(range(len(lanes.status)), key=lambda i: _merit(lanes, i))


def run_method(rows: Rows, how: Method, starts: GMMParams, options: EMOptions) -> LanesResult:
    """All lanes to their stop; options in the units of the rows."""
    if how.run is not None:
        return how.run(rows, starts, options)
    return run_lanes(starts, rows.x, rows.weight, options, how.kernel, rows.n_samples, how.accelerate)


def run_most_promising(
    starts: GMMParams, rows: Rows, options: EMOptions, how: Method, per_count: int, keep: int
) -> LanesResult:
    """A short run of every lane, after which the `keep` best of each component count go on (short-run EM).

    options: in the units of the rows. per_count: restarts of one count, neighbours among the lanes. The others end
    as DROPPED (Biernacki, Celeux and Govaert 2003).
    """
    short = replace(options, max_iter=np.minimum(options.max_iter, np.int32(SHORT_RUN)))
    lanes = run_method(rows, how, starts, short)
    groups = np.arange(len(lanes.status)).reshape(-1, per_count)
    ranked = [sorted(group, key=lambda i: _merit(lanes, i), reverse=True)[:keep] for group in groups]
    unfinished = (lanes.status == Status.MAX_ITER) & (lanes.n_iter < options.max_iter)
    chosen = np.array([i for i in np.ravel(ranked) if unfinished[i]], int)
    status = np.where(unfinished, np.int32(Status.DROPPED), lanes.status)
    if not len(chosen):
        return replace(lanes, status=status)
    rest = replace(options, max_iter=options.max_iter - np.int32(SHORT_RUN))
    more = run_method(rows, how, take(lanes.params, chosen), rest)
    status[chosen] = Status.INTERRUPTED
    # Those that were stopped before they went on keep what they had.
    went_on = np.isfinite(more.log_likelihood)
    chosen, more = chosen[went_on], take(more, went_on)
    history = np.full((len(status), lanes.history.shape[1] + more.history.shape[1] - 1), np.nan, lanes.history.dtype)
    history[:, : lanes.history.shape[1]] = lanes.history
    # The second run begins with the E-step that ended the first.
    history[chosen, lanes.history.shape[1] :] = more.history[:, 1:]
    merged = jax.tree.map(np.array, replace(lanes, status=status, history=history))
    more = replace(more, n_iter=more.n_iter + SHORT_RUN, history=history[chosen])
    put(merged, chosen, more)
    return merged


def no_model(n_components: int, status: Status, diagnoses: Sequence[Diagnosis]) -> FitError:
    """The error of a count that no start led to a finite state of; the best of them ended with `status`."""
    details = "".join(f"; {d.text()}" for d in diagnoses if d.kind == "singular")
    found = f"no start gave a usable model with {n_components} components: {cause(status)} at the very start{details}"
    return FitError("E301", found, cure(status), status, diagnoses)


def refused(status: Status, diagnoses: Sequence[Diagnosis]) -> FitError:
    """The error of a fit with degenerate components, where that is asked for."""
    found = "; ".join(d.text() for d in diagnoses)
    return FitError("E307", found, "ask for fewer components, or drop what does not vary", status, diagnoses)


def too_small(reach: Any, dtype: np.dtype, relative: Any) -> Any:
    """Whether data that reach so far from their mean have a variance, but none that the `dtype` can hold.

    relative: whether the floor under covariances is; an absolute one is there whatever the data are.
    """
    with np.errstate(over="ignore", under="ignore"):
        return relative & (reach > 0) & (np.square(reach) < float(np.finfo(dtype).tiny))


def beyond_precision(reach: float, dtype: np.dtype) -> FitError:
    """The error of a fit whose covariances do not fit into the `dtype`."""
    found = (
        f"the data reach up to {reach:.3g} from their mean, and the squares of that, the covariances, do not fit "
        f"into {dtype}"
    )
    return FitError("E302", found, f"divide the data by {reach:.3g}", Status.NONFINITE)


def summarise(
    lanes: LanesResult,
    rows: Rows,
    n_components: int,
    init: str,
    options: EMOptions,
    inside: EMOptions,
    *,
    drop: bool = False,
) -> FitResult:
    """The best of the restarts in data units; `FitError` if none has a finite state.

    options: as they were given; inside: in the units of the rows. drop: leave out components without rows.
    """
    i = best_restart(lanes)
    status = Status(int(lanes.status[i]))
    own = take(lanes.params, i)
    chosen = np.arange(n_components)
    if drop:
        chosen = np.flatnonzero(np.asarray(own.weights) > 0)
    own = select_components(own, chosen)
    singular = status == Status.SINGULAR
    since, found = lanes.floored[i][chosen], tuple[Diagnosis, ...]()
    if singular or (since >= 0).any() or (np.asarray(own.weights) == 0).any():
        found = diagnose(own, rows, inside, since=since, singular=singular)
    small = too_small(rows.reach, rows.dtype, options.relative)
    if not np.isfinite(lanes.log_likelihood[i]):
        if status == Status.INTERRUPTED:
            _interrupt.check()
        if small:
            raise beyond_precision(rows.reach, rows.dtype)
        raise no_model(n_components, status, found)
    with np.errstate(over="ignore"):
        params = in_data_units(own, rows)
    lowest = np.finfo(rows.dtype).tiny
    if not np.isfinite(params.covariances).all() or small or smallest_variance(params) < lowest:
        raise beyond_precision(rows.reach, rows.dtype)
    # The rows have other units than the data, and so has the density of a covariance.
    units = 0.0 if inside.prior is None else change_of_units(inside.prior, own, rows.scale)
    return FitResult(
        params=params,
        log_likelihood=float(lanes.log_likelihood[i]),
        classification_log_likelihood=float(lanes.classification_log_likelihood[i]),
        log_prior=float(lanes.penalty[i]) + units,
        n_samples=rows.n_samples,
        weight_sum=rows.weight_sum,
        restart_log_likelihoods=np.asarray(lanes.log_likelihood, np.float64),
        restart_status=np.asarray(lanes.status),
        restart_n_iter=np.asarray(lanes.n_iter),
        restart_history=lanes.history + np.asarray(units, lanes.history.dtype),
        best_restart=i,
        kernel=str(lanes.kernel[i]),
        init=init,
        diagnoses=found,
        options=options.as_dict(),
    )


def fit_rows(
    rows: Rows,
    candidates: Sequence[int],
    *,
    covariance_type: str,
    init: str | Sequence[GMMParams],
    keys: jax.Array | None,
    options: EMOptions,
    how: Method,
) -> dict[int, FitResult | FitError]:
    """Fit every component count; all (count, restart) pairs of one padded size are lanes of one program.

    init: a start method, or starting parameters (one lane each, all with the one candidate's K).
    keys: (R), one per restart, None for given starts. Where the floor under the covariances is too low to hold in the
    dtype of the rows, the count is fitted anew with one that holds, as its ``options`` then say. A count for which no
    restart gave a usable state maps to its `FitError`.
    """
    results: dict[int, FitResult | FitError] = {}
    buckets = component_buckets(candidates)
    groups = [(padded, counts) for padded, counts in buckets.items()]
    if how.prior is not None:
        # Each count has a prior of its own, a traced argument of the same program.
        groups = [(padded, [n]) for padded, counts in buckets.items() for n in counts]
    for padded, counts in groups:
        prior = row_prior(how.prior, rows, counts[0], covariance_type)
        inside = replace(rows.options(options), prior=prior)
        if isinstance(init, str) and keys is not None:
            active = np.arange(padded) < np.asarray(counts)[:, None]
            # Starts know nothing of a prior, so they have a floor of their own.
            floor = inside.reg_covar if prior is None else rows.options(em_options(rows.dtype)).reg_covar
            try:
                starts = random_starts(rows, keys, active, init, covariance_type, floor)
            except Interrupted as stop:
                results |= dict.fromkeys(counts, stop)
                continue
        else:
            assert not isinstance(init, str)
            starts = given_starts(init, rows, padded)
        per_count = starts.weights.shape[0] // len(counts)
        if how.keep_restarts is None or how.keep_restarts >= per_count:
            lanes = run_method(rows, how, starts, inside)
        else:
            lanes = run_most_promising(starts, rows, inside, how, per_count, how.keep_restarts)
        for j, n_components in enumerate(counts):
            mine = take(lanes, slice(j * per_count, (j + 1) * per_count))
            if how.degenerate in REPAIRS:
                run = partial(run_method, rows, how)
                mine = repaired(mine, rows, inside, run, how.degenerate, n_components)
            try:
                name = init if isinstance(init, str) else "given"
                found = summarise(mine, rows, n_components, name, options, inside, drop=how.degenerate == "drop")
                results[n_components] = found
                if how.degenerate == "raise" and found.diagnoses:
                    raise refused(found.status, found.diagnoses)
            except FitError as error:
                results[n_components] = error
    firm = firmer(options, rows.n_features, rows.dtype)
    weak = [n for n, found in results.items() if found.status == Status.SINGULAR]
    if firm and weak:
        results |= fit_rows(rows, weak, covariance_type=covariance_type, init=init, keys=keys, options=firm, how=how)
    return results
