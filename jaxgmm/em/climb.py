"""Gradient ascent with any optax optimiser, on unconstrained parameters, from starts to `LanesResult` like EM.

The optimiser sees the mean loss −(ℓ + log prior − penalty) / Σ v_n as a function of the free numbers of
`jaxgmm.unconstrained` in units of the Fisher information at the start, so that a step of a given size means the same
whatever the units and the number of rows. Covariances are Σ_k = L_k L_kᵀ + reg_covar, which cannot collapse.
An iteration is one update or, with batches, one epoch of them; after each the objective of all rows is known.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm import _interrupt
from jaxgmm._compile import hot_jit
from jaxgmm._numerics import eps, noise_level
from jaxgmm._options import EMOptions
from jaxgmm._pytree import pytree, replace, stack, take
from jaxgmm._status import Status
from jaxgmm.data.rows import Rows
from jaxgmm.em.foreign import Penalty, check_penalty, first_memory, found_by_search, stepped
from jaxgmm.em.lanes import CALL_SECONDS, LanesResult
from jaxgmm.em.loop import floored_since, keep_if
from jaxgmm.objective import log_likelihood
from jaxgmm.params import GMMParams, factorize, is_sound, rescale, translate
from jaxgmm.prior import log_prior
from jaxgmm.stats import SuffStats, collect
from jaxgmm.unconstrained import FreeParams, constrain, dot, metric, unconstrain

# Iterations of one call at most: the history buffer's length.
_LENGTH = 256


@dataclass(frozen=True)
class Task:
    """What is compiled in. optimizer: of optax. penalty: of parameters in data units, or None. batch_size: or None."""

    optimizer: Any
    penalty: Penalty | None
    batch_size: int | None


@pytree
class Frame:
    """What stays the same during a climb: how free numbers are to be read, and the rows.

    metric: units of the free numbers. active (K): components that take part. x (N', D), weight (N'): prepared rows, of
    which `n_samples` are real. offset (D), scale: data are offset + scale · x. key: for the batches.
    """

    metric: FreeParams
    active: Array
    x: Array
    weight: Array
    n_samples: Any
    weight_sum: Any
    offset: Any
    scale: Any
    key: Array
    options: EMOptions


@pytree
class Climb:
    """The state of a lane: where it is, what the optimiser remembers, and the best place so far.

    place, best: free numbers in units of the metric. loss, slope: at `place`, over all rows. objective, best_objective:
    ℓ + log prior − penalty in data units. gained: whether any step has led to a better place than the start.
    """

    place: FreeParams
    memory: Any
    loss: Array
    slope: FreeParams
    objective: Array
    best: FreeParams
    best_objective: Array
    gained: Array
    n_iter: Array
    status: Array
    floored: Array


def mixture(place: FreeParams, frame: Frame) -> GMMParams:
    """The mixture of the rows that free numbers stand for."""
    free = jax.tree.map(jnp.divide, place, frame.metric)
    params = constrain(replace(free, logits=jnp.where(frame.active, free.logits, -jnp.inf)))
    return replace(params, covariances=params.family.add_to_diagonal(params.covariances, frame.options.reg_covar))


def _place_of(params: GMMParams, frame: Frame) -> FreeParams:
    """The free numbers of a mixture; a covariance with nothing above the floor is taken as being above it."""
    above = replace(params, covariances=params.family.add_to_diagonal(params.covariances, -frame.options.reg_covar))
    free, bare = unconstrain(params), unconstrain(above)
    free = replace(
        free,
        logits=jnp.where(frame.active, free.logits, 0.0),
        shapes=jnp.where(jnp.isfinite(bare.shapes), bare.shapes, free.shapes),
    )
    return jax.tree.map(jnp.multiply, free, frame.metric)


def _in_data_units(params: GMMParams, frame: Frame) -> GMMParams:
    return translate(rescale(params, frame.scale), frame.offset[None, :])


def _extra(params: GMMParams, frame: Frame, task: Task) -> Array:
    """log prior − penalty."""
    total = jnp.zeros((), params.means.dtype)
    if frame.options.prior is not None:
        total += log_prior(frame.options.prior, params, factorize(params))
    if task.penalty is not None:
        total -= jnp.asarray(task.penalty(_in_data_units(params, frame)), total.dtype)
    return total


def _loss(place: FreeParams, frame: Frame, task: Task, x: Array, weight: Array) -> Array:
    params = mixture(place, frame)
    return -(log_likelihood(params, x, weight) + _extra(params, frame, task)) / frame.weight_sum


def _far(params: GMMParams) -> Array:
    """Scalar bool: a component is so far from the rows, or so wide, that no digit of them is left in a difference."""
    reach = 1.0 / eps(params.means.dtype)
    means = jnp.where(params.active[:, None], params.means, 0.0)
    return jnp.any(jnp.abs(means) > reach) | jnp.any(jnp.abs(params.covariances) > reach * reach)


def _failure(before: Climb, params: GMMParams, frame: Frame, task: Task, objective: Array, regular: Array) -> Array:
    """The stop code of a place that is not sound; before: the lane at the place that the step was made from."""
    finite = jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]))
    # Without a floor every ascent may end in a singularity, and batches go on from there to NaN. Steps that are too
    # long fall first, or fail at once.
    ascending = (before.gained & (before.objective >= before.best_objective)) | (objective > before.objective)
    bare = jnp.all(frame.options.reg_covar == 0)
    extra = _extra(params, frame, task)
    penalised = jnp.array(task.penalty is not None)
    at_start = before.n_iter < 0
    cases = [
        (at_start & regular, Status.NONFINITE),
        (at_start, Status.SINGULAR),
        (penalised & (extra == jnp.inf), Status.UNBOUNDED),
        (~regular & ascending & (finite | bare), Status.SINGULAR),
        # What is wrong with a place that can be held is the penalty, or its gradient.
        (penalised & finite & regular & (~jnp.isfinite(extra) | jnp.isfinite(objective)), Status.BAD_PENALTY),
        (ascending & bare, Status.SINGULAR),
        (before.gained, Status.BAD_STEP),
    ]
    return jnp.select([case for case, _ in cases], [jnp.int32(code) for _, code in cases], jnp.int32(Status.NO_GAIN))


def _settled(climb: Climb, frame: Frame, task: Task, loss: Array, slope: FreeParams) -> Climb:
    """The lane with `loss` and `slope` over all rows at its present place, and whether it goes on."""
    options, params = frame.options, mixture(climb.place, frame)
    factors = factorize(params)
    objective = -loss * frame.weight_sum - frame.weight_sum * options.log_volume
    regular = is_sound(params, factors, jnp.zeros_like(params.means))
    sound = regular & jnp.isfinite(objective) & jnp.isfinite(dot(slope, slope))
    wanted = jnp.maximum(options.tol * (options.row_weight + jnp.abs(objective)), options.tol_mean * frame.weight_sum)
    wanted = jnp.maximum(wanted, noise_level(objective, frame.weight_sum))
    # What an EM iteration would gain: an optimiser may stand still, or turn, anywhere.
    natural = jax.tree.map(lambda g, unit, now: g * unit / now, slope, frame.metric, metric(params))
    settled = (jnp.abs(objective - climb.objective) <= wanted) & (frame.weight_sum * dot(natural, natural) <= wanted)
    n_iter = climb.n_iter + 1
    better = sound & (objective > climb.best_objective)
    # Far from the rows nothing but a penalty can be gained.
    away = better & _far(params) & (n_iter > 0) & (task.penalty is not None)
    better &= ~away
    gained = climb.gained | (better & (n_iter > 0))
    last = jnp.where(gained | (n_iter == 0), jnp.int32(Status.MAX_ITER), jnp.int32(Status.NO_GAIN))
    status = jnp.select(
        [~sound, away, settled, n_iter >= options.max_iter],
        [
            _failure(climb, params, frame, task, objective, regular),
            jnp.int32(Status.UNBOUNDED),
            jnp.int32(Status.CONVERGED),
            last,
        ],
        jnp.int32(Status.RUNNING),
    )
    return replace(
        climb,
        loss=loss,
        slope=slope,
        objective=objective,
        best=keep_if(better, climb.place, climb.best),
        best_objective=jnp.where(better, objective, climb.best_objective),
        gained=gained,
        n_iter=n_iter,
        status=status,
        floored=floored_since(climb.floored, params, factors, n_iter, options),
    )


def _updated(climb: Climb, task: Task, loss_of: Callable[[FreeParams], Array], loss: Array, slope: FreeParams) -> Climb:
    place, memory = stepped(task.optimizer, climb.place, climb.memory, loss_of, loss, slope)
    return replace(climb, place=place, memory=memory)


def _epoch(climb: Climb, frame: Frame, task: Task, batch_size: int) -> Climb:
    """An update for each batch of a random order of the rows; batches differ in size by one row at most."""
    n = frame.n_samples
    lot = jax.random.uniform(jax.random.fold_in(frame.key, climb.n_iter), frame.weight.shape)
    order = jnp.argsort(jnp.where(jnp.arange(lot.shape[0]) < n, lot, jnp.inf))
    order = jnp.concatenate([order, jnp.zeros(batch_size, order.dtype)])
    n_batches = (n + batch_size - 1) // batch_size
    size, longer = n // n_batches, n % n_batches

    def one(i: Array, climb: Climb) -> Climb:
        rows = jax.lax.dynamic_slice_in_dim(order, i * size + jnp.minimum(i, longer), batch_size)
        own = size + (i < longer)
        share = jnp.where(jnp.arange(batch_size) < own, (n / own).astype(frame.weight.dtype), 0.0)
        # Each row stands for as many as there are batches.
        loss_of = partial(_loss, frame=frame, task=task, x=frame.x[rows], weight=frame.weight[rows] * share)
        return _updated(climb, task, loss_of, *jax.value_and_grad(loss_of)(climb.place))

    return jax.lax.fori_loop(0, n_batches, one, climb)


def _strong(climb: Climb) -> Climb:
    """All numbers of definite types, so that the program of the first call is that of the second."""
    return jax.tree.map(lambda a: jax.lax.convert_element_type(a, a.dtype), climb)


@partial(hot_jit, static_argnames="task")
def _begin(params: GMMParams, frame: Frame, *, task: Task) -> tuple[Climb, Frame]:
    frame = replace(frame, metric=metric(params), active=params.active)
    place = _place_of(params, frame)
    climb = Climb(
        place=place,
        memory=first_memory(task.optimizer, place),
        loss=jnp.zeros((), place.means.dtype),
        slope=place,
        objective=jnp.full((), -jnp.inf, place.means.dtype),
        best=place,
        best_objective=jnp.full((), -jnp.inf, place.means.dtype),
        gained=jnp.array(False),
        n_iter=jnp.int32(-1),
        status=jnp.int32(Status.RUNNING),
        floored=jnp.full(params.n_components, -1, jnp.int32),
    )
    slope_of = jax.value_and_grad(partial(_loss, frame=frame, task=task, x=frame.x, weight=frame.weight))
    loss, slope = slope_of(place)
    return _strong(_settled(climb, frame, task, loss, slope)), frame


@partial(hot_jit, static_argnames="task")
def _advance(climb: Climb, frame: Frame, limit: Array, *, task: Task) -> tuple[Climb, Array]:
    """Up to `limit` iterations, and the objectives after each, NaN past the end."""
    history = jnp.full(_LENGTH, jnp.nan, climb.objective.dtype)

    def running(carry: tuple[Climb, Array, Array]) -> Array:
        return (carry[0].status == Status.RUNNING) & (carry[2] < limit)

    def one(carry: tuple[Climb, Array, Array]) -> tuple[Climb, Array, Array]:
        climb, history, i = carry
        loss_of = partial(_loss, frame=frame, task=task, x=frame.x, weight=frame.weight)
        if task.batch_size is None:
            climb = _updated(climb, task, loss_of, climb.loss, climb.slope)
            found = found_by_search(climb.memory)
        else:
            climb, found = _epoch(climb, frame, task, task.batch_size), None
        loss, slope = found or jax.value_and_grad(loss_of)(climb.place)
        climb = _strong(_settled(climb, frame, task, loss, slope))
        return climb, history.at[i].set(climb.objective), i + 1

    climb, history, _ = jax.lax.while_loop(running, one, (climb, history, jnp.int32(0)))
    return climb, history


@partial(hot_jit, static_argnames="task")
def _finish(climb: Climb, frame: Frame, *, task: Task) -> tuple[GMMParams, SuffStats, Array]:
    params = mixture(climb.best, frame)
    return params, collect(factorize(params), frame.x, frame.weight), _extra(params, frame, task)


def climb_lanes(rows: Rows, starts: GMMParams, options: EMOptions, *, task: Task, key: jax.Array) -> LanesResult:
    """Every lane to its stop, one after the other; `UsageError` for a penalty or an optimiser that cannot be used.

    starts: parameters in the units of the rows, leading axis L. options: likewise. key: for the batches.
    """
    frame = Frame(
        metric=unconstrain(take(starts, 0)),
        active=jnp.asarray(starts.weights[0] > 0),
        x=rows.x,
        weight=rows.weight,
        n_samples=np.int32(rows.n_samples),
        weight_sum=np.asarray(rows.weight_sum, rows.dtype),
        offset=rows.offset.astype(rows.dtype),
        scale=np.asarray(rows.scale, rows.dtype),
        key=key,
        options=options,
    )
    if task.penalty is not None:
        check_penalty(task.penalty, _in_data_units(take(starts, 0), frame))
    lanes = [
        _climb(take(starts, i), replace(frame, key=jax.random.fold_in(key, i)), task)
        for i in range(starts.weights.shape[0])
    ]
    ends = stack([end for end, _ in lanes])
    (params, stats, extra), climbs = ends
    longest = max(len(history) for _, history in lanes)
    seen = np.isfinite(climbs.best_objective)
    return LanesResult(
        params=params,
        log_likelihood=np.where(seen, stats.log_likelihood - stats.weight_sum * options.log_volume, -np.inf),
        classification_log_likelihood=stats.classification_log_likelihood - stats.weight_sum * options.log_volume,
        n_iter=np.maximum(climbs.n_iter, 0),
        status=climbs.status,
        history=np.stack([np.pad(h, (0, longest - len(h)), constant_values=np.nan) for _, h in lanes]),
        kernel=np.full(len(lanes), "whitening"),
        penalty=np.where(seen, extra, 0.0),
        floored=climbs.floored,
    )


def _climb(start: GMMParams, frame: Frame, task: Task) -> tuple[Any, np.ndarray]:
    """The end of one lane, and its objectives after 0, 1, 2 … iterations."""
    climb, frame = _begin(start, frame, task=task)
    pieces, limit = [np.asarray(climb.objective)[None]], 1
    while int(climb.status) == Status.RUNNING:
        if _interrupt.asked():
            climb = replace(climb, status=jnp.int32(Status.INTERRUPTED))
            break
        begun = time.perf_counter()
        climb, history = _advance(climb, frame, np.int32(limit), task=task)
        pieces.append(np.asarray(history)[:limit])
        _interrupt.hold()
        # A call cannot be stopped. How long it is decides nothing else.
        seconds = time.perf_counter() - begun
        limit = min(2 * limit, _LENGTH) if seconds < 0.5 * CALL_SECONDS else max(1, limit // 2)
    history = np.concatenate(pieces)
    ends = _finish(climb, frame, task=task)
    summary = replace(climb, memory=None, slope=None)
    return (ends, summary), history[np.isfinite(history)]
