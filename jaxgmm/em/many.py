"""Many small data sets as one batch: lanes with their own rows, run by one compiled program per shape.

A chunk holds C data sets padded to the same number of rows. Every (set, component count, restart) is a task, and
slots work on the tasks of a chunk (`_slots`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm import _interrupt
from jaxgmm._compile import hot_jit
from jaxgmm._interrupt import Interrupted
from jaxgmm._numerics import MAX_BLOCK, eps, max_lost_digits, next_power_of_two
from jaxgmm._options import EMOptions, floor_by_feature
from jaxgmm._parallel import side_by_side
from jaxgmm._pytree import pytree, replace, take
from jaxgmm._slots import run_in_slots
from jaxgmm._status import Status
from jaxgmm.covariance import get_family
from jaxgmm.data.sets import Sets, buckets, pack
from jaxgmm.em.burst import iteration_flops
from jaxgmm.em.loop import EMState, init_state, step
from jaxgmm.init._lane import lane_start
from jaxgmm.params import GMMParams

# Rows that all slots work on together: their log-densities and responsibilities stay in cache.
SLOT_CELLS = 1 << 13
MAX_SLOTS = 64
# An accelerator wants more to do at once.
WIDE = 64
# Tasks of a chunk: many to a slot, so that the last ones alone in their slots are a small part.
CHUNK_TASKS = 1 << 9
CHUNK_BYTES = 1 << 26
# Arithmetic of a turn of a chunk, at most about a second, and its smallest number of iterations: a turn cannot be
# stopped. Most chunks take one; another is a program of its own.
TURN_FLOPS = 4e9
SHORTEST_TURN = 16


@pytree
class Outcome:
    """What every task ended with, leading axis T: parameters of the best state, and the numbers of `LanesResult`."""

    params: GMMParams
    log_likelihood: Any
    classification_log_likelihood: Any
    n_iter: Any
    status: Any
    floored: Any


def n_slots(n_rows: int, n_components: int) -> int:
    """L, a power of two."""
    scale = 1 if jax.default_backend() == "cpu" else WIDE
    return min(MAX_SLOTS * scale, next_power_of_two(max(1, scale * SLOT_CELLS // (n_rows * n_components))))


def chunk_sets(n_rows: int, n_features: int, itemsize: int, per_set: int) -> int:
    """C, from the shape of the padded sets and the number of tasks of each."""
    scale = 1 if jax.default_backend() == "cpu" else WIDE
    return max(1, min(scale * CHUNK_TASKS // per_set, CHUNK_BYTES // (n_rows * n_features * itemsize)))


@partial(hot_jit, static_argnames=("n_restarts", "slots", "method", "covariance_type", "kernel", "accelerate"))
def run_chunk(
    x: Array,
    weight: Array,
    options: EMOptions,
    number: Array,
    n_sets: Array,
    active: Array,
    key: Array,
    limit: Array,
    *,
    n_restarts: int,
    slots: int,
    method: str,
    covariance_type: str,
    kernel: str,
    accelerate: str | None,
) -> EMState:
    """Fit the first `n_sets` of C data sets, each with every mask and restart, for a turn of `limit` iterations.

    x (C, N', D), each set about its own mean, and weight (C, N'), padded with weight 0. options: of each set, (C).
    number (C): the position i of a set among all; its restarts draw from ``split(fold_in(key, i), R)``.
    active (J, K): one mask per component count. Returns the states (T, ...) in the order (set, mask, restart).
    """
    n_masks = active.shape[0]
    per_set = n_masks * n_restarts
    n_tasks = n_sets * per_set

    def start_of(task: Array) -> GMMParams:
        i, mask, restart = task // per_set, task // n_restarts % n_masks, task % n_restarts
        own = jax.random.split(jax.random.fold_in(key, number[i]), n_restarts)[restart]
        return lane_start(
            own, x[i], weight[i], active[mask], options.reg_covar[i], method=method, covariance_type=covariance_type
        )

    some = jnp.arange(slots, dtype=jnp.int32)
    shape = jax.eval_shape(jax.vmap(start_of), some)
    # Room for whole rounds of slots: what lies beyond the tasks is never looked at.
    room = -(-x.shape[0] * per_set // slots) * slots
    starts = jax.tree.map(lambda a: jnp.zeros((room, *a.shape[1:]), a.dtype), shape)

    def begin(i: Array, starts: GMMParams) -> GMMParams:
        task = jnp.minimum(i * slots + some, n_tasks - 1)
        made = jax.vmap(start_of)(task)
        return jax.tree.map(
            lambda all_, new: jax.lax.dynamic_update_slice_in_dim(all_, new, i * slots, 0), starts, made
        )

    starts = jax.lax.fori_loop(0, -(-n_tasks // slots), begin, starts)
    states = jax.vmap(lambda start: init_state(start, x.dtype, accelerate))(starts)
    tasks = jnp.arange(room, dtype=jnp.int32)
    return _turn(states, tasks, n_tasks, x, weight, options, limit, per_set=per_set, slots=slots, kernel=kernel)


def _turn(
    states: EMState,
    tasks: Array,
    n_tasks: Array,
    x: Array,
    weight: Array,
    options: EMOptions,
    limit: Array,
    *,
    per_set: int,
    slots: int,
    kernel: str,
) -> EMState:
    """A turn of `limit` iterations for the first `n_tasks` of the states (T, ...), all running; see `run_chunk`.

    tasks (T): the place of each in the order (set, mask, restart).
    """
    next_states = jax.vmap(partial(step, block_size=min(x.shape[1], MAX_BLOCK), kernel=kernel))

    def advance(state: EMState, run: Array) -> tuple[EMState, Array]:
        own = tasks[run] // per_set
        new = next_states(state, x[own], weight[own], take(options, own))
        return new, new.best_log_likelihood

    return run_in_slots(states, n_tasks, advance, lambda s: s.running, slots=slots, limit=limit)[0]


go_on = hot_jit(_turn, static_argnames=("per_set", "slots", "kernel"))


def _outcome(state: EMState) -> Outcome:
    return Outcome(
        params=state.best_params,
        log_likelihood=state.best_log_likelihood,
        classification_log_likelihood=state.best_classification,
        n_iter=state.n_iter,
        status=state.status,
        floored=state.floored,
    )


def fit_sets(
    sets: Sets,
    members: np.ndarray,
    active: np.ndarray,
    *,
    covariance_type: str,
    init: str,
    key: Array,
    n_restarts: int,
    options: EMOptions,
    accelerate: str | None,
) -> tuple[Outcome, np.ndarray]:
    """Fit the `members` of the sets with every mask (J, K) and restart, on all cores.

    Returns an `Outcome` of host arrays with leading axes (S, J, R), and (S, J, R) bool: which tasks ended with the
    kernel `whitening`. Sets that are not members have status `Status.RUNNING` and a log-likelihood of -inf; once
    somebody asks to stop, tasks that are not done end as INTERRUPTED, with -inf where they had not begun.
    """
    shape = (len(sets.n_samples), len(active), n_restarts)
    n_components, n_features = active.shape[1], sets.n_features
    run = partial(
        _run_chunks,
        sets,
        active=active,
        key=key,
        n_restarts=n_restarts,
        method=init,
        covariance_type=covariance_type,
        accelerate=accelerate,
    )
    outcome = _nothing(shape, n_components, n_features, covariance_type, sets.dtype)
    sizes = buckets(sets.n_samples[members])
    if sets.dtype.itemsize < 8:
        # In single precision `features` is rarely precise for long.
        run(sizes, members, outcome, options=options, kernel="whitening")
        whitened = np.ones(shape, bool)
    else:
        careful = replace(options, max_loss=np.asarray(max_lost_digits(sets.dtype, n_features), sets.dtype))
        run(sizes, members, outcome, options=careful, kernel="features")
        whitened = outcome.status == Status.IMPRECISE
        again = np.flatnonzero(whitened.any(axis=(1, 2)))
        if len(again):
            # As one bucket: these are few, and every bucket is a program.
            size = max(buckets(sets.n_samples[again]))
            redone = jax.tree.map(np.copy, outcome)
            run({size: np.arange(len(again))}, again, redone, options=options, kernel="whitening")
            jax.tree.map(lambda old, new: old.__setitem__(whitened, new[whitened]), outcome, redone)
    if _interrupt.asked():
        if not np.isfinite(outcome.log_likelihood).any():
            _interrupt.check()
        left = np.isin(outcome.status[members], (Status.RUNNING, Status.IMPRECISE))
        outcome.status[members] = np.where(left, Status.INTERRUPTED, outcome.status[members])
    return outcome, whitened


def _nothing(shape: tuple[int, ...], n_components: int, n_features: int, covariance_type: str, dtype: Any) -> Outcome:
    """The outcome of tasks that are not run."""
    family = get_family(covariance_type)
    return Outcome(
        params=GMMParams(
            weights=np.zeros((*shape, n_components), dtype),
            means=np.zeros((*shape, n_components, n_features), dtype),
            covariances=np.zeros((*shape, *family.shape(n_components, n_features)), dtype),
            covariance_type=family.name,
        ),
        log_likelihood=np.full(shape, -np.inf, dtype),
        classification_log_likelihood=np.zeros(shape, dtype),
        n_iter=np.zeros(shape, np.int32),
        status=np.full(shape, Status.RUNNING, np.int32),
        floored=np.full((*shape, n_components), -1, np.int32),
    )


def _run_chunks(
    sets: Sets,
    sizes: dict[int, np.ndarray],
    members: np.ndarray,
    outcome: Outcome,
    *,
    active: np.ndarray,
    n_restarts: int,
    options: EMOptions,
    **rest: Any,
) -> None:
    """Run `members[index]` for every (rows, index) of `sizes` and write what comes out into `outcome`.

    What was not begun when somebody asked to stop is left as it was.
    """
    n_masks, n_components = active.shape
    per_set = n_masks * n_restarts
    n_features, dtype = sets.n_features, sets.dtype

    def fit_chunk(item: tuple[int, int, np.ndarray]) -> None:
        n_rows, n_sets, mine = item
        x, weight = pack(sets, mine, n_sets, n_rows)
        number = np.zeros(n_sets, np.int32)
        number[: len(mine)] = mine
        own = jax.tree.map(lambda a: np.full(n_sets, a), options)
        total = weight.sum(axis=1, keepdims=True)
        share = weight / np.where(total > 0, total, 1.0)
        variances = np.einsum("cn,cnd->cd", share, x.astype(np.float64) ** 2)
        floor = floor_by_feature(options, variances, eps(dtype) * np.abs(sets.offset[number]))
        own = replace(own, row_weight=sets.row_weight[number].astype(dtype), reg_covar=floor.astype(dtype))
        n_tasks = len(mine) * per_set
        slots = n_slots(n_rows, n_components)
        flops = max(n_tasks, slots) * iteration_flops(n_rows, n_components, n_features)
        limit = np.int32(max(SHORTEST_TURN, min(TURN_FLOPS / flops, np.iinfo(np.int32).max)))
        begun = run_chunk(
            x, weight, own, number, np.int32(len(mine)), active, limit=limit, n_restarts=n_restarts, slots=slots, **rest
        )
        another = partial(
            go_on, x=x, weight=weight, options=own, limit=limit, per_set=per_set, slots=slots, kernel=rest["kernel"]
        )
        states = _to_the_end(jax.tree.map(np.array, begun), n_tasks, another)

        def put(whole: np.ndarray, part: Array) -> None:
            whole[mine] = part[:n_tasks].reshape(len(mine), *whole.shape[1:])

        jax.tree.map(put, outcome, _outcome(states))

    chunks = []
    for n_rows, index in sizes.items():
        n_sets = chunk_sets(n_rows, n_features, dtype.itemsize, per_set)
        chunks += [(n_rows, n_sets, members[index[i : i + n_sets]]) for i in range(0, len(index), n_sets)]
    with contextlib.suppress(Interrupted):
        side_by_side(fit_chunk, chunks)


def _to_the_end(states: EMState, n_tasks: int, another: Callable[[EMState, np.ndarray, np.int32], EMState]) -> EMState:
    """Turn after turn of the first `n_tasks` of the states (host arrays) until all have ended, or somebody asks."""
    running = np.arange(n_tasks, dtype=np.int32)
    while len(running := running[states.status[running] == Status.RUNNING]) and not _interrupt.asked():
        tasks = np.resize(running, len(states.status))
        after = another(take(states, tasks), tasks, np.int32(len(running)))
        jax.tree.map(lambda all_, new: all_.__setitem__(running, np.asarray(new)[: len(running)]), states, after)
    states.status[running] = Status.INTERRUPTED
    return states
