"""The lane engine: many EM runs over the same rows as one compiled batch.

A lane is one run: a start, an active-component mask (weight 0 = inactive) and, through the start's
covariance type, one family. The host drives bursts of a compiled `while_loop`; between bursts it keeps
the history, moves finished lanes out, and re-packs the rest into the next smaller power of two, so that
a slow lane does not make the others pay.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm._numerics import MIN_BLOCK, default_block_size, next_power_of_two
from jaxgmm._options import EMOptions
from jaxgmm._pytree import pytree, replace, take
from jaxgmm._status import Status
from jaxgmm.em.loop import EMState, init_state, select, step
from jaxgmm.params import GMMParams

# Iterations in one burst: the history buffer's length. The first bursts are shorter, so that lanes which
# converge early are retired early.
BURST = 256
FIRST_BURST = 16
# A smaller bucket is another program to compile. Lanes are re-packed once the idle ones have wasted about as
# much arithmetic as that costs.
REPACK_FLOPS = 1e9
# Working memory of one block of rows for all lanes of a batch; more lanes run in several batches.
LANE_BYTES = 1 << 28


@pytree
class LanesResult:
    """What every lane ended with (host arrays, leading axis L).

    params: the best state of each lane. log_likelihood, classification_log_likelihood (L).
    n_iter, status (L) int. history: (L, T) log-likelihood after 0, 1, 2 … iterations, NaN past the end.
    """

    params: GMMParams
    log_likelihood: Any
    classification_log_likelihood: Any
    n_iter: Any
    status: Any
    history: Any


@jax.jit
def _start(params: GMMParams) -> EMState:
    return jax.vmap(lambda start: init_state(start, params.means.dtype))(params)


@jax.jit
def _burst(state: EMState, x: Array, weight: Array, options: EMOptions, limit: Array) -> tuple[EMState, Array]:
    """Up to `limit` iterations of every running lane; log-likelihoods (BURST, L), NaN where a lane was idle."""
    lanes = state.status.shape[0]
    history = jnp.full((BURST, lanes), jnp.nan, x.dtype)
    # All lanes work on the same block of rows at once, so the block shrinks with their number.
    n_components, n_features = lanes * state.params.n_components, state.params.n_features
    block_size = default_block_size(n_components, n_features, x.dtype.itemsize)
    advance = jax.vmap(partial(step, block_size=block_size), in_axes=(0, None, None, None))

    def keep_going(carry: tuple[EMState, Array, Array]) -> Array:
        state, _, i = carry
        return jnp.any(state.running) & (i < limit)

    def body(carry: tuple[EMState, Array, Array]) -> tuple[EMState, Array, Array]:
        state, history, i = carry
        new = jax.vmap(select)(state.running, advance(state, x, weight, options), state)
        moved = new.n_iter > state.n_iter
        sound = (new.status != Status.SINGULAR) & (new.status != Status.NONFINITE)
        row = jnp.where(moved & sound, new.stats.log_likelihood, jnp.nan)
        return new, history.at[i].set(row), i + 1

    state, history, _ = jax.lax.while_loop(keep_going, body, (state, history, jnp.zeros((), jnp.int32)))
    return state, history


@jax.jit
def _pack(state: EMState, index: Array) -> EMState:
    return take(state, index)


def run_lanes(starts: GMMParams, x: Array, weight: Array, options: EMOptions) -> LanesResult:
    """Run every lane to its stop, as many at a time as memory allows.

    starts: parameters with a leading lane axis L, all of one family and one padded K. x (N, D) and
    weight (N) are shared by all lanes. Returns a `LanesResult` in the order of the starts.
    """
    n_lanes = starts.weights.shape[0]
    per_lane = starts.n_components * starts.n_features * MIN_BLOCK * x.dtype.itemsize
    chunk = max(1, LANE_BYTES // per_lane)
    parts = [_run_batch(take(starts, slice(i, i + chunk)), x, weight, options) for i in range(0, n_lanes, chunk)]
    if len(parts) == 1:
        return parts[0]
    longest = max(part.history.shape[1] for part in parts)
    padded = [
        replace(p, history=np.pad(p.history, ((0, 0), (0, longest - p.history.shape[1])), constant_values=np.nan))
        for p in parts
    ]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *padded)


def _run_batch(starts: GMMParams, x: Array, weight: Array, options: EMOptions) -> LanesResult:
    """Lanes that fit into memory together: bursts, retirement, re-packing."""
    n_lanes = starts.weights.shape[0]
    state = _start(starts)
    lanes = np.arange(n_lanes)  # which original lane sits in each place of the batch
    result: dict[int, EMState] = {}
    history: list[np.ndarray] = []
    limit, wasted = FIRST_BURST, 0.0
    per_iteration = _flops(x.shape[0], starts.n_components, starts.n_features)
    while True:
        running = np.asarray(state.status) == Status.RUNNING
        size = next_power_of_two(int(running.sum()))
        if running.any() and (size > len(lanes) // 2 or wasted < REPACK_FLOPS):
            wasted += limit * per_iteration * (len(lanes) - int(running.sum()))
            state, rows = _burst(state, x, weight, options, np.int32(limit))
            history.append(_scatter_history(np.asarray(rows), lanes, n_lanes))
            limit = min(2 * limit, BURST)
            continue
        host = jax.tree.map(np.asarray, state)
        result.update((int(lane), take(host, i)) for i, lane in enumerate(lanes) if not running[i])
        if not running.any():
            break
        index = np.flatnonzero(running)
        # Fill the bucket with copies of a finished lane: idle places cost nothing but their width.
        idle = np.flatnonzero(~running)[: size - len(index)]
        index = np.concatenate([index, idle])
        state, lanes, wasted = _pack(state, index), lanes[index], 0.0
    final = jax.tree.map(lambda *leaves: np.stack(leaves), *(result[lane] for lane in range(n_lanes)))
    trace = np.concatenate(history, axis=1)
    return LanesResult(
        params=final.best_params,
        log_likelihood=final.best_log_likelihood,
        classification_log_likelihood=final.best_classification,
        n_iter=final.n_iter,
        status=final.status,
        history=trace,
    )


def _flops(n_samples: int, n_components: int, n_features: int) -> float:
    """Arithmetic of one EM iteration of one lane, roughly: products and exponentials."""
    return n_samples * n_components * (2.0 * n_features * (n_features + 1) + 20.0)


def _scatter_history(rows: np.ndarray, lanes: np.ndarray, n_lanes: int) -> np.ndarray:
    """Burst log-likelihoods (BURST, places) as (n_lanes, used), NaN for lanes not in the batch."""
    used = int(np.max(np.sum(~np.isnan(rows), axis=0), initial=0))
    out = np.full((n_lanes, used), np.nan, rows.dtype)
    out[lanes] = rows[:used].T
    return out
