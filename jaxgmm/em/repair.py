"""What to do about degenerate components, if anything: drop them, or give them a new place and go on.

Both keep the rest of a mixture as it is and run EM again. A component that lost all its rows or rests on hardly
anything (`diagnosis`) is either taken out, or revived by splitting the widest other component in two: the data are
worst described where one component covers most of the scatter. Where the data as a whole do not vary, as along a
constant column, no component can help it, and all of them are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np

from jaxgmm import _interrupt
from jaxgmm._options import EMOptions
from jaxgmm._pytree import replace, stack, take
from jaxgmm._status import Status
from jaxgmm.data.rows import Rows
from jaxgmm.em.diagnosis import full_covariances, thin_where_rows_vary
from jaxgmm.em.lanes import LanesResult
from jaxgmm.params import GMMParams

# Rounds of repair and further iterations; what is still degenerate then is kept with its diagnosis.
MAX_ROUNDS = 5


class Ended(Protocol):
    """Lanes that have come to their stop."""

    @property
    def params(self) -> GMMParams: ...
    @property
    def status(self) -> Any: ...
    @property
    def floored(self) -> Any: ...


Run = Callable[[GMMParams, EMOptions], LanesResult]


def drop(params: GMMParams, bad: np.ndarray) -> GMMParams:
    """The mixture without the `bad` components (K bool), which become inactive; the heaviest stays in any case."""
    weights = np.array(params.weights)
    kept = ~bad & (weights > 0)
    if not kept.any():
        kept[np.argmax(weights)] = True
    weights = np.where(kept, weights, 0.0)
    return replace(params, weights=weights / weights.sum())


def revive(params: GMMParams, bad: np.ndarray) -> GMMParams:
    """The mixture with every `bad` component (K bool) moved onto one half of the component with most scatter.

    Along the longest axis, of variance λ, the halves lie √λ / 2 on either side of the centre, and keep ¾ λ.
    """
    weights, means = np.array(params.weights), np.array(params.means)
    covariances = np.array(full_covariances(params))
    weights[bad] = 0.0
    if not weights.any():
        return params
    for k in np.flatnonzero(bad):
        scatter = weights * np.trace(covariances, axis1=1, axis2=2)
        widest = int(np.argmax(scatter))
        values, vectors = np.linalg.eigh(covariances[widest])
        half = 0.5 * np.sqrt(values[-1]) * vectors[:, -1]
        means[k], means[widest] = means[widest] - half, means[widest] + half
        covariances[widest] -= np.outer(half, half)
        covariances[k] = covariances[widest]
        weights[k] = weights[widest] = 0.5 * weights[widest]
    shapes = np.asarray(params.family.from_full(jnp.asarray(covariances.astype(means.dtype)), jnp.asarray(weights)))
    return replace(params, weights=weights / weights.sum(), means=means, covariances=shapes)


REPAIRS: dict[str, Callable[[GMMParams, np.ndarray], GMMParams]] = {"drop": drop, "revive": revive}


def repaired(lanes: LanesResult, rows: Rows, options: EMOptions, run: Run, how: str, n_components: int) -> LanesResult:
    """Lanes whose degenerate components were dropped or revived, each round followed by EM to its stop.

    options: in the units of the rows. run(starts, options): lanes from new starts. how: a key of `REPAIRS`.
    n_components: how many of the components of a lane are meant to be there.
    """
    repair = REPAIRS[how]
    for _ in range(MAX_ROUNDS):
        bad = np.array([wanting(lanes, i, rows, options, n_components, how) for i in range(len(lanes.status))])
        chosen = np.flatnonzero(bad.any(axis=1) & (lanes.n_iter < options.max_iter))
        if not len(chosen) or _interrupt.asked():
            break
        starts = stack([repair(take(lanes.params, int(i)), bad[i]) for i in chosen])
        rest = replace(options, max_iter=options.max_iter - np.int32(lanes.n_iter[chosen].min()))
        lanes = _continued(lanes, chosen, run(starts, rest))
    return lanes


def wanting(lanes: Ended, i: int, rows: Rows, options: EMOptions, n_components: int, how: str) -> np.ndarray:
    """(K): which components of a lane want repair. What has been dropped does not.

    how: a key of `REPAIRS`. The other arguments as in `repaired`.
    """
    params = take(lanes.params, i)
    weights = np.asarray(params.weights)
    empty = (weights == 0) & (np.arange(len(weights)) < n_components)
    bad = empty if how == "revive" else np.zeros_like(empty)
    singular = lanes.status[i] == Status.SINGULAR
    if params.family.per_component and (singular or (np.asarray(lanes.floored[i]) >= 0).any()):
        bad = bad | thin_where_rows_vary(params, rows, options, singular=singular)
    return bad


def _continued(lanes: LanesResult, chosen: np.ndarray, more: LanesResult) -> LanesResult:
    """The lanes with `more` in the places `chosen`, histories joined; one without a usable state changes nothing."""
    usable = np.isfinite(more.log_likelihood)
    chosen, more = chosen[usable], take(more, usable)
    fields = {name: np.array(getattr(lanes, name)) for name in ("log_likelihood", "classification_log_likelihood")}
    fields |= {name: np.array(getattr(lanes, name)) for name in ("status", "kernel", "penalty", "floored", "n_iter")}
    done = fields["n_iter"][chosen] + 1
    since = np.where(more.floored >= 0, more.floored + done[:, None], -1)
    more = replace(more, n_iter=more.n_iter + done, floored=since)
    for name, values in fields.items():
        values[chosen] = getattr(more, name)
    width = lanes.history.shape[1] + more.history.shape[1]
    history = np.full((len(lanes.status), width), np.nan, lanes.history.dtype)
    history[:, : lanes.history.shape[1]] = lanes.history
    for i, row in zip(chosen, more.history, strict=True):
        done = int(np.sum(~np.isnan(lanes.history[i])))
        history[i, done : done + len(row)] = row
    longest = int(np.max(np.sum(~np.isnan(history), axis=1), initial=0))
    parts = {name: np.array(getattr(lanes.params, name)) for name in ("weights", "means", "covariances")}
    for name, values in parts.items():
        values[chosen] = getattr(more.params, name)
    return replace(lanes, params=replace(lanes.params, **parts), history=history[:, :longest], **fields)
