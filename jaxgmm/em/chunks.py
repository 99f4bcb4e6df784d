"""Device programs for chunks of small data sets: lanes with their own rows, one program per shape.

A chunk holds C data sets padded to the same number of rows. Every (set, component count, restart) is a task, and
slots work on the tasks of a chunk (`_slots`).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm._compile import hot_jit
from jaxgmm._numerics import MAX_BLOCK, next_power_of_two
from jaxgmm._options import EMOptions
from jaxgmm._pytree import take
from jaxgmm._slots import run_in_slots
from jaxgmm.em.loop import EMState, begin_again, init_state, keep_if, step
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


def n_slots(n_rows: int, n_components: int) -> int:
    """L, a power of two."""
    scale = 1 if jax.default_backend() == "cpu" else WIDE
    return min(MAX_SLOTS * scale, next_power_of_two(max(1, scale * SLOT_CELLS // (n_rows * n_components))))


def chunk_sets(n_rows: int, n_features: int, itemsize: int, per_set: int) -> int:
    """C, from the shape of the padded sets and the number of tasks of each."""
    scale = 1 if jax.default_backend() == "cpu" else WIDE
    return max(1, min(scale * CHUNK_TASKS // per_set, CHUNK_BYTES // (n_rows * n_features * itemsize)))


def blank_states(params: GMMParams, accelerate: str | None) -> EMState:
    """Host arrays (T, ...) for a first turn to fill. params (T, ...): of any values."""
    shapes = jax.eval_shape(jax.vmap(lambda start: init_state(start, params.means.dtype, accelerate)), params)
    return jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)


@partial(hot_jit, static_argnames=("n_restarts", "slots", "method", "covariance_type", "kernel"))
def run_chunk(
    states: EMState,
    tasks: Array,
    n_tasks: Array,
    fresh: Array,
    *,
    x: Array,
    weight: Array,
    options: EMOptions,
    start_floor: Array,
    number: Array,
    active: Array,
    key: Array,
    limit: Array,
    n_restarts: int,
    slots: int,
    method: str,
    covariance_type: str,
    kernel: str,
) -> EMState:
    """A turn of `limit` iterations for the first `n_tasks` of the states (T, ...), all running, of C data sets.

    T: whole rounds of slots. tasks (T): the place of each state in the order (set, mask, restart). fresh: whether this
    is the first turn, of all tasks in their order, which begins with their starts; one program does both, as each is
    dear to compile. x (C, N', D), each set about its own mean, and weight (C, N'), padded with weight 0. options: of
    each set and mask, (C·J). start_floor (C, D): what starts add to covariance diagonals. number (C): the position i
    of a set among all; its restarts draw from ``split(fold_in(key, i), R)``. active (J, K): one mask per component
    count.
    """
    n_masks = active.shape[0]
    per_set = n_masks * n_restarts

    def start_of(task: Array) -> GMMParams:
        i, mask, restart = task // per_set, task // n_restarts % n_masks, task % n_restarts
        own = jax.random.split(jax.random.fold_in(key, number[i]), n_restarts)[restart]
        return lane_start(
            own, x[i], weight[i], active[mask], start_floor[i], method=method, covariance_type=covariance_type
        )

    some = jnp.arange(slots, dtype=jnp.int32)

    def begin(i: Array, starts: GMMParams) -> GMMParams:
        task = jnp.minimum(i * slots + some, n_tasks - 1)
        made = jax.vmap(start_of)(task)
        return jax.tree.map(
            lambda all_, new: jax.lax.dynamic_update_slice_in_dim(all_, new, i * slots, 0), starts, made
        )

    starts = jax.lax.fori_loop(0, jnp.where(fresh, -(-n_tasks // slots), 0), begin, states.params)
    accelerate = None if states.memory is None else states.memory.method
    begun = jax.vmap(lambda start: init_state(start, x.dtype, accelerate))(starts)
    states = keep_if(fresh, begun, states)
    next_states = jax.vmap(partial(step, block_size=min(x.shape[1], MAX_BLOCK), kernel=kernel))

    def advance(state: EMState, run: Array) -> tuple[EMState, Array]:
        which = tasks[run] // n_restarts
        own = which // n_masks
        new = next_states(state, x[own], weight[own], take(options, which))
        return new, new.best_log_likelihood

    return run_in_slots(states, n_tasks, advance, lambda s: s.running, slots=slots, limit=limit)[0]


@jax.jit
def restart(states: EMState, starts: GMMParams) -> EMState:
    return jax.vmap(begin_again)(states, starts)
